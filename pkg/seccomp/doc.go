// SPDX-License-Identifier: Apache-2.0

// Package seccomp compiles seccomp profiles, in the OCI runtime's format with Docker's
// additions, to the classic BPF programs that seccomp(2) takes. It needs neither cgo nor the
// kernel that the program is for: the host compiles, the guest's agent installs.
//
// What a profile means is what runc with libseccomp makes of it:
//
//   - rules of one system call that look at arguments come before the one that does not
//   - conditions of a rule hold together; those on the same argument are alternatives
//   - names that the architecture lacks are left out
//   - system calls newer than any that the profile names fail with ENOSYS, as on an older
//     kernel, where they would be refused: programs then fall back to older ones
//   - system calls of an architecture that the profile does not name kill the process
package seccomp
