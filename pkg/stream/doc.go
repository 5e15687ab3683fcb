// SPDX-License-Identifier: Apache-2.0

// Package stream copies serial consoles into CRI log files.
//
//	guest --> QEMU --append--> spool --Consoles--> CRI log file --> kubectl logs
//	                             |                     |
//	                             '-- checkpoint -------'   how much of the one is in the other
//
// QEMU appends what the guest prints to the spool, whether vmlet runs or not. Consoles
// follows all spools through one inotify instance, writes their lines into the logs,
// notes in the checkpoint how far it got, and punches holes into the spool where it
// was, so that it takes no more room on disk than what is not in the log yet.
//
// The log file is in the CRI format (see pkg/crilog). What becomes of the bytes:
//
//   - A line ends at its LF. Carriage returns before it are dropped, as terminals need
//     them and logs do not. Elsewhere a carriage return stays, since it means that the
//     line is overwritten; several in a row are one, as on a terminal.
//   - A line longer than MaxPayload is cut into entries flagged partial, as containerd
//     cuts them.
//   - A line that is not ended within a second, such as a prompt, is written as a
//     partial entry; the rest of the line follows with its own.
//   - All other bytes pass as they are, valid UTF-8 or not.
//
// No line is lost and none is written twice, also if this process is killed at any
// moment: the checkpoint says that the first N bytes of the spool are in the first L
// bytes of the log. What the log has beyond L was written after the checkpoint; it is
// compared with what the spool says from N on, and only what is missing is written.
// The comparison goes by bytes and not by entries, since where a partial entry ended
// depended on the time. A crash of the host is survived as far as its file systems
// kept what was written last: neither logs nor spools are synced, as the guest does
// not outlive that crash.
//
// Output is lost when a log cannot be written for so long that more than a configured
// amount waits in the spool, or when that much was printed while vmlet was away. The
// oldest is then given up, and a line in the log says how much.
package stream
