// SPDX-License-Identifier: Apache-2.0

// Package lifecycle holds the use cases: what it takes to run, stop and remove a
// sandbox, to create, start, stop and remove a container, and to be right again
// after a crash. It is the only writer of state.
//
// Every mutating use case has the same shape:
//
//	lock the sandbox -> record the intent -> do the steps, each with its undo beside
//	it -> record the outcome
//
// The lock is short: what waits for a guest (a grace period) or moves many bytes (a
// pull) runs without it. Work that was begun is finished even if the caller goes
// away, and a retry of the same call waits for it and gets its result.
//
// Reads answer from the store's memory; they never call libvirt.
//
// Where to look: one file per use case, named by it; service.go for what they share;
// ports.go for what is needed from below; share.go for work that outlives its caller;
// machine.go and size.go for what a VM is made of; events.go, settle.go and exit.go for how
// an end is heard of, settled and judged; recover.go and decide.go for what happens after a
// crash.
//
// Who adds a step gives it its undo, makes it idempotent, and thinks of recovery: the name
// of the write or the undo becomes a failpoint, at which a test kills the daemon.
package lifecycle
