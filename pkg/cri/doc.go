// SPDX-License-Identifier: Apache-2.0

// Package cri serves the Kubernetes CRI, runtime.v1 of k8s.io/cri-api: one file per
// RPC, named by it, which validates, converts, makes one call down and converts back.
// Conversions are pure functions in convert*.go. Errors carry errdefs classes; the
// server turns them into gRPC codes.
//
// A VM is not a container, so each field of a request is one of:
//
//	honoured   in the way that a VM can. What is about a process holds for the container's
//	           command, which is the guest's main process, and vmlet-agent applies it
//	ignored    what nothing acts on, for a reason that docs/reference/cri.md tells: rules
//	           for a process where there is none, SELinux labels of the host, Windows
//	refused    what a VM cannot keep, as FailedPrecondition: namespaces of the host or of
//	           another container, user namespaces, devices, image volumes, bidirectional
//	           mounts, mount options, huge pages, AppArmor profiles of the host (unless
//	           privileged, which voids them)
//	wrong      what the CRI itself forbids, or what could not be carried out safely, as
//	           InvalidArgument
//
// docs/reference/cri.md has every RPC and every field with the tests that hold it, and
// docs_test.go holds that page: a field that changes its group changes its row there.
//
// Error texts name fields and never show the value of an environment variable, an
// annotation or a credential.
package cri
