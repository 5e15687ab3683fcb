// SPDX-License-Identifier: Apache-2.0

package agentlink

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"sync"

	"github.com/vmlet/vmlet/pkg/agentlink/cobs"
)

// kind is a frame's first byte.
type kind byte

// Kinds of frames.
const (
	kindHello   kind = 1
	kindWelcome kind = 2
	kindReady   kind = 3
	kindData    kind = 4
)

const (
	// maxWire is the most bytes of one frame with its zeros. The guest's driver takes as much
	// in one write.
	maxWire = 32 << 10
	// maxPayload leaves room for type, checksum, COBS's code bytes and both zeros.
	maxPayload  = maxWire - 256
	checksumLen = 4
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// frame is one that came whole. Its payload is the reader's, until the next one is read.
type frame struct {
	kind    kind
	payload []byte
}

// frameWriter writes frames, each with one Write. Safe for concurrent use.
type frameWriter struct {
	mu    sync.Mutex
	w     io.Writer
	plain []byte
	wire  []byte
	torn  bool // the last frame was not written whole
}

func newFrameWriter(w io.Writer) *frameWriter {
	return &frameWriter{w: w} // its buffers grow with what is written: most hosts say little
}

// write writes one frame, whose payload is all the parts.
func (f *frameWriter) write(k kind, parts ...[]byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.plain = append(f.plain[:0], byte(k))
	for _, p := range parts {
		f.plain = append(f.plain, p...)
	}
	if len(f.plain) > 1+maxPayload {
		return fmt.Errorf("frame of %d bytes", len(f.plain))
	}
	f.plain = binary.BigEndian.AppendUint32(f.plain, crc32.Checksum(f.plain, castagnoli))
	f.wire = f.wire[:0]
	if k != kindData || f.torn {
		// What stands before the first frame of a session may be the half of another one.
		f.wire = append(f.wire, 0)
	}
	f.wire = append(cobs.Append(f.wire, f.plain), 0)
	_, err := f.w.Write(f.wire)
	f.torn = err != nil
	return err
}

// errGarbage is a port that brings more of what is no frame than its reader puts up with.
var errGarbage = errors.New("too much on the port that is no frame")

// frameReader reads frames and drops everything else. For one goroutine.
type frameReader struct {
	r io.Reader
	// patience is how many bytes may still be dropped, negative for any number.
	patience int

	buf        []byte // it grows with the frames, up to maxWire
	start, end int    // of what was read and not yet returned
}

// firstBuffer is enough for most guests, most of the time.
const firstBuffer = 2 << 10

func newFrameReader(r io.Reader, patience int) *frameReader {
	return &frameReader{r: r, patience: patience, buf: make([]byte, firstBuffer)}
}

// next returns the next frame, or errGarbage, or the error of the reader below.
func (f *frameReader) next() (frame, error) {
	for tooLong := false; ; {
		wire, ended, err := f.piece()
		if err != nil {
			return frame{}, err
		}
		if ended && !tooLong {
			if fr, ok := decode(wire); ok {
				return fr, nil
			}
		}
		tooLong = !ended
		if err := f.drop(len(wire) + 1); err != nil {
			return frame{}, err
		}
	}
}

// piece returns what stands before the next zero, or, not ended, as much as a frame may have
// at most.
func (f *frameReader) piece() (wire []byte, ended bool, err error) {
	for seen := 0; ; {
		if n := bytes.IndexByte(f.buf[f.start+seen:f.end], 0); n >= 0 {
			wire = f.buf[f.start : f.start+seen+n]
			f.start += seen + n + 1
			return wire, true, nil
		}
		seen = f.end - f.start
		if seen == maxWire {
			wire = f.buf[f.start:f.end]
			f.start, f.end = 0, 0
			return wire, false, nil
		}
		f.room()
		n, err := f.r.Read(f.buf[f.end:])
		f.end += n
		if errors.Is(err, io.EOF) && n == 0 {
			f.start, f.end = 0, 0 // who wrote this has gone
		}
		if err != nil && n == 0 {
			return nil, false, err
		}
	}
}

// room makes some behind what is there.
func (f *frameReader) room() {
	if f.start == 0 && f.end == len(f.buf) {
		f.buf = append(f.buf, make([]byte, min(len(f.buf), maxWire-len(f.buf)))...)
		return
	}
	f.end = copy(f.buf, f.buf[f.start:f.end])
	f.start = 0
}

// drop counts bytes that were of no use.
func (f *frameReader) drop(n int) error {
	if f.patience < 0 {
		return nil
	}
	if f.patience -= n; f.patience < 0 {
		f.patience = 0
		return errGarbage
	}
	return nil
}

// decode decodes a frame without its zeros, in place.
func decode(wire []byte) (frame, bool) {
	plain, err := cobs.Decode(wire[:0], wire)
	if err != nil || len(plain) < 1+checksumLen {
		return frame{}, false
	}
	body, sum := plain[:len(plain)-checksumLen], plain[len(plain)-checksumLen:]
	if crc32.Checksum(body, castagnoli) != binary.BigEndian.Uint32(sum) {
		return frame{}, false
	}
	return frame{kind: kind(body[0]), payload: body[1:]}, true
}
