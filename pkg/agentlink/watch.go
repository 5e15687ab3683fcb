// SPDX-License-Identifier: Apache-2.0

package agentlink

import "encoding/binary"

// The header of a yamux frame, https://github.com/hashicorp/yamux/blob/master/spec.md
const (
	muxHeaderLen = 12

	muxData   = 0
	muxWindow = 1

	flagSYN = 1
	flagRST = 8
)

// muxFrame is what a header of yamux says.
type muxFrame struct {
	kind   byte
	flags  uint16
	stream uint32
	length uint32
}

// muxWatcher finds the headers in a session's bytes, in whatever pieces these come.
type muxWatcher struct {
	see    func(muxFrame) error
	header []byte
	body   uint32 // bytes still to skip
}

func (w *muxWatcher) watch(p []byte) error {
	for len(p) > 0 {
		if w.body > 0 {
			n := min(uint32(len(p)), w.body)
			p, w.body = p[n:], w.body-n
			continue
		}
		n := min(len(p), muxHeaderLen-len(w.header))
		w.header, p = append(w.header, p[:n]...), p[n:]
		if len(w.header) < muxHeaderLen {
			return nil
		}
		f := muxFrame{
			kind:   w.header[1],
			flags:  binary.BigEndian.Uint16(w.header[2:]),
			stream: binary.BigEndian.Uint32(w.header[4:]),
			length: binary.BigEndian.Uint32(w.header[8:]),
		}
		w.header = w.header[:0]
		if f.kind == muxData {
			w.body = f.length
		}
		if err := w.see(f); err != nil {
			return err
		}
	}
	return nil
}
