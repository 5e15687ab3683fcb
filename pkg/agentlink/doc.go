// SPDX-License-Identifier: Apache-2.0

// Package agentlink is what vmlet and vmlet-agent speak over: many calls at once on one
// virtio-serial port, whatever else comes out of that port.
//
//	calls      a Request and what follows it, length-delimited protobuf   Stream
//	session    yamux: a stream per call, each with its own window         Session, Serve
//	frames     0x00 [COBS(type, payload, CRC-32C)] 0x00                   frame.go
//	port       bytes, some of them from before                           QEMU's socket, /dev/virtio-ports
//
// A frame's bytes hold no zero, so a reader that meets garbage is back in step at the next
// one. The host begins each session with a Hello and a fresh nonce; Data frames carry the
// nonce's beginning and a count, so what is left of an older session is dropped and a frame
// that got lost ends the session instead of corrupting it:
//
//	vmlet                       vmlet-agent
//	  |  <------ Ready ----------  |  on opening the port; waits until somebody dials
//	  |  ------- Hello(n) ------>  |  after dialling, and for each Ready
//	  |  <------ Welcome(n) -----  |  version and features that both have
//	  |  <====== Data(n, i) ====>  |  yamux; a Ready or another Hello ends it
//
// Each side bounds what the other can make it hold: frames, messages, streams, windows.
package agentlink
