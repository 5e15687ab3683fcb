// SPDX-License-Identifier: Apache-2.0

// Package stream copies what containers say into CRI log files and to attached clients: the
// output of a container's command, or the serial console of a machine that has none.
//
//	                             .--clients--> kubectl attach
//	guest --> QEMU --append--> spool --Consoles--> CRI log file --> kubectl logs
//	                             |                     |
//	                             '-- checkpoint -------'   how much of the one is in the other
//
// QEMU appends what the guest prints to the spool, whether vmlet runs or not. Consoles
// follows all spools through one inotify instance, writes their lines into the logs,
// notes in the checkpoint how far it got, and punches holes into the spool where it
// was, so that it takes no more room on disk than what is not in the log yet.
//
// The log file is in the CRI format (see pkg/crilog). What becomes of a console's bytes:
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
// A command's output comes in records (pkg/agentlink/record), each of which is one entry. A
// guest that writes anything else there costs a line that says how many bytes were not
// readable, and no more: it cannot stall the log, nor write a line that is not its own.
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
//
// An attached client reads the spool as well, beside the log and at its own pace, and has no
// more in memory than it reads at once. What it has yet to hear is not punched out; one that
// is too far behind goes on further ahead, with a line that says how much it missed. Watchers of
// a serial console are such clients, who may begin with what the spool still has.
package stream
