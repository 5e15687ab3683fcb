// SPDX-License-Identifier: Apache-2.0

package store

import (
	"fmt"
	"runtime/debug"

	"github.com/containerd/errdefs"
)

// guardDamage runs do, which reads a file that may be damaged. bbolt panics on pages
// that make no sense, and touching a mapped page that the file no longer has is a
// fault: both become DataLoss.
func guardDamage(do func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = damaged(fmt.Sprint(p))
		}
	}()
	return do()
}

// damaged says what is wrong with the file and what can be done about it.
func damaged(what string) error {
	return fmt.Errorf("the file is damaged (%s); restore it from a backup, or move it away to start without any record: %w",
		what, errdefs.ErrDataLoss)
}
