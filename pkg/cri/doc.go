// SPDX-License-Identifier: Apache-2.0

// Package cri serves the Kubernetes CRI, runtime.v1 of k8s.io/cri-api: one file per
// RPC, named by it, which validates, converts, makes one call down and converts back.
// Conversions are pure functions in convert*.go. Errors carry errdefs classes; the
// server turns them into gRPC codes.
//
// A VM is not a container, so each field of a request is one of:
//
//	honoured   in the way that a VM can: names, labels, annotations, log paths, resources,
//	           DNS, port mappings with a host port, cgroup parent
//	no effect  what is kept for a later version (command, args, working directory,
//	           environment, mounts, stdin and tty: an image boots its own init), what
//	           nothing sets in the guest (sysctls, DNS options), and rules for a process on
//	           the host's kernel, of which a VM has none: privileged, capabilities, users
//	           and groups, read-only root, masked paths, SELinux options
//	refused    what a VM cannot keep, as FailedPrecondition: namespaces of the host or of
//	           another container, user namespaces, devices, image volumes, bidirectional
//	           and recursive read-only mounts, mount options, huge pages, Localhost
//	           profiles (unless privileged, which voids them), supplemental groups policy
//	           Strict, a stop signal
//	wrong      what the CRI itself forbids, or what could not be carried out safely, as
//	           InvalidArgument
//
// docs/reference/cri.md has every RPC and every field, held by docs_test.go: a field that
// changes its group changes its row there.
//
// Error texts name fields and never show the value of an environment variable, an
// annotation or a credential.
package cri
