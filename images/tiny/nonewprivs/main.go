// SPDX-License-Identifier: Apache-2.0

// Command nonewprivs says which user it runs as. It is installed setuid root: only a process
// that may not gain privileges (no_new_privs of prctl(2)) is told its own.
package main

import (
	"os"
	"strconv"
)

func main() {
	if _, err := os.Stdout.WriteString("Effective uid: " + strconv.Itoa(os.Geteuid()) + "\n"); err != nil {
		panic(err)
	}
}
