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
// Where to look: one file per use case, named by it; ports.go for what is needed from
// below; recover.go for what happens after a crash; exit.go for how an end is judged.
package lifecycle
