// SPDX-License-Identifier: Apache-2.0

// Package cri serves the Kubernetes CRI, runtime.v1 of k8s.io/cri-api: one file per
// RPC, named by it, which validates, converts, makes one call down and converts back.
// Conversions are pure functions in convert*.go. Errors carry errdefs classes; the
// server turns them into gRPC codes.
//
// A VM is not a container, so the CRI's fields fall into groups. None is dropped by
// accident; each is one of:
//
//	carried         names, labels, annotations, log paths, resources, DNS, port mappings
//	                with a host port, cgroup parent, sysctls, namespace modes, command,
//	                args, environment and mounts. Nothing acts on the last four yet: an
//	                image boots its own init
//	without effect  rules for a process on the host's kernel, of which a VM has none: the
//	                hypervisor is the boundary. Privileged, capabilities, no_new_privs,
//	                users and groups, read-only root, masked and read-only paths, SELinux
//	                options, seccomp and AppArmor profiles RuntimeDefault and Unconfined
//	refused         what a VM cannot keep, as FailedPrecondition: namespaces of the host
//	                or of another container, user namespaces, devices, image volumes,
//	                bidirectional and recursive read-only mounts, mount options, huge
//	                pages, Localhost profiles (unless privileged, which voids them),
//	                supplemental groups policy Strict, a stop signal
//	wrong           what the CRI itself forbids, or what could not be carried out safely,
//	                as InvalidArgument
//
// Error texts name fields and never show the value of an environment variable, an
// annotation or a credential.
package cri
