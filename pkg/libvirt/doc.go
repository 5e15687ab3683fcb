// SPDX-License-Identifier: Apache-2.0

// Package libvirt runs machines as domains of a libvirt daemon.
//
// A Hypervisor holds six connections: for events, for starts, for power buttons, for screens,
// for the rest of the life of domains, and for qemu-guest-agent. A call that hangs on one of them, as calls into a
// guest do, holds up no other. Each connection is kept up by a goroutine of its own that
// dials again, with a growing pause, when it is lost; until it is back its calls fail as
// Unavailable at once.
//
// libvirt's calls block in C, deaf to ctx, each holding an OS thread. So at most
// callsInFlight run per connection, and a caller whose ctx ends leaves: the call goes on
// in its slot and its result is dropped.
//
// Domains are ours by the mark in their metadata (domainxml.Mark) and by nothing else.
// Every operation looks for it first (owner.go).
//
// Where to look: conn.go and session.go keep connections up, call.go makes the calls,
// errors.go classifies what they return. domain.go, destroy.go, undefine.go and show.go are
// the life of a domain. events.go and what it uses turn callbacks into events. process.go and
// qemu.go find and hold the QEMU behind a domain, which libvirt does not tell. accel.go
// chooses the accelerator. screen.go looks at screens. virtiofsd.go, sharewatch.go and replug.go see to the process behind
// a guest's share.
package libvirt
