// SPDX-License-Identifier: Apache-2.0

// Command reaper runs one command as a child subreaper and outlives it.
//
// QEMU is daemonized by libvirt, so its parent becomes the nearest subreaper, or else PID 1. libvirt waits for a dead
// QEMU to be reaped before a destroy returns; where PID 1 reaps late or never (many containers), each destroy costs
// seconds. Run as
//
//	reaper [-pid-file FILE] -- /usr/sbin/libvirtd ...
//
// the reaper collects every orphan the moment it exits. It stays when the command ends, so that VMs started by one
// libvirtd are still reaped promptly under the next:
//
//	SIGHUP           start the command again if it is not running
//	SIGTERM, SIGINT  pass SIGTERM to the command, and exit once it is gone
//
// Orphans that still run when the reaper exits go to PID 1.
package main

import (
	"flag"
	"fmt"
	"log"
	"os"
	"runtime"
)

func main() {
	log.SetFlags(log.LstdFlags | log.Lmsgprefix)
	log.SetPrefix("reaper: ")
	pidFile := flag.String("pid-file", "", "`file` that holds the command's process ID while the command runs")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: reaper [-pid-file FILE] -- COMMAND [ARG...]")
		flag.PrintDefaults()
	}
	flag.Parse()
	if flag.NArg() == 0 {
		flag.Usage()
		os.Exit(2)
	}
	// The command's parent-death signal is tied to the thread that started it: keep this one.
	runtime.LockOSThread()
	if err := run(flag.Args(), *pidFile); err != nil {
		log.Fatal(err)
	}
}
