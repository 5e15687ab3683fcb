// SPDX-License-Identifier: Apache-2.0

// Package lifecycletest holds, for each interface in ports.go of pkg/lifecycle, a fake in
// memory and the contract that the interface's comments state, as a suite of tests. The
// fakes pass it here; the real adapters pass it in their own packages. So what the use
// cases were tested on is what they run on.
//
// Fakes embed a Script: a test tells it what to do wrong, and reads what it saw.
//
// A new promise in ports.go gets its test in the contract; both sides must then keep it.
package lifecycletest
