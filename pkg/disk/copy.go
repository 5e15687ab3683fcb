// SPDX-License-Identifier: Apache-2.0

package disk

import "io"

// flushEvery is how much of a long copy the host's disk is given at a time, in bytes. What Linux holds back it may hold back for
// minutes, and hands over at the end of the copy: who watches its progress would take it for one that does nothing any more.
const flushEvery = 64 << 20

// copyFlushed copies all there is, and has it on stable storage all but for the last part.
func copyFlushed(dst syncWriter, src io.Reader) error {
	_, err := io.Copy(&flushed{dst: dst}, src)
	return err
}

type syncWriter interface {
	io.Writer
	Sync() error
}

// flushed syncs what is written through it, part by part.
type flushed struct {
	dst    syncWriter
	behind int
}

// Write is io.Writer's.
func (f *flushed) Write(p []byte) (int, error) {
	n, err := f.dst.Write(p)
	if f.behind += n; err != nil || f.behind < flushEvery {
		return n, err
	}
	f.behind = 0
	return n, f.dst.Sync()
}
