// SPDX-License-Identifier: Apache-2.0

// Package saveimage reads and writes what stands before a guest's memory in the files that libvirt's QEMU driver saves it
// to: a header, the domain's XML, and a cookie of libvirt's own. libvirt itself lets nobody give the XML another name or
// UUID, and a VM that is restored elsewhere has both.
//
// The format is that of libvirt's src/qemu/qemu_saveimage.h, version 2 since libvirt 0.8, in the host's byte order:
//
//	"LibvirtQemudSave"  16 bytes
//	version, data length, was running, format, cookie's offset, 14 unused   uint32 each
//	XML, NUL, cookie, NUL, zeros     together as long as the data
//	QEMU's stream
package saveimage

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/containerd/errdefs"
)

const (
	magic   = "LibvirtQemudSave"
	version = 2

	headerSize = len(magic) + 19*4
	// mostData bounds what is read before a stream: an XML of ours has some 10 KiB.
	mostData = 16 << 20
	// block is what libvirt aligns the stream to.
	block = 4096
	// lastStream is the last format (zstd) whose stream may begin anywhere: later ones name places in the file.
	lastStream = 5

	atVersion, atLength, atFormat, atCookie = 16, 20, 28, 32
)

// Head is what stands before a stream.
type Head struct {
	XML string

	header [headerSize]byte
	cookie []byte
	length int
}

// Read reads a head; what is left in r is the stream. FailedPrecondition for what is none.
func Read(r io.Reader) (*Head, error) {
	h := &Head{}
	if _, err := io.ReadFull(r, h.header[:]); err != nil {
		return nil, refused("a file of libvirt's with a guest's memory ends within its header: %v", err)
	}
	if string(h.header[:len(magic)]) != magic {
		return nil, refused("it is no file of libvirt's with a guest's memory, or was not written to its end")
	}
	if v := h.number(atVersion); v != version {
		return nil, refused("its format has the version %d, and %d is known", v, version)
	}
	length, cookie := h.number(atLength), h.number(atCookie)
	if length == 0 || length > mostData || cookie > length {
		return nil, refused("its header speaks of %d bytes, with a cookie at %d", length, cookie)
	}
	data := make([]byte, length)
	if _, err := io.ReadFull(r, data); err != nil {
		return nil, refused("it ends before the guest's memory: %v", err)
	}
	h.length = int(length)
	text := data
	if cookie > 0 {
		text, h.cookie = data[:cookie], untilNUL(data[cookie:])
	}
	h.XML = string(untilNUL(text))
	return h, nil
}

// With is the head with another XML, as bytes. The stream stays where it was, if there is room. FailedPrecondition if there
// is none, and the stream cannot begin anywhere else.
func (h *Head) With(xml string) ([]byte, error) {
	need := len(xml) + 1
	header := h.header
	cookieAt := 0
	if len(h.cookie) > 0 {
		cookieAt = need
		need += len(h.cookie) + 1
	}
	length := h.length
	if need > length {
		if f := h.number(atFormat); f > lastStream {
			return nil, refused("the domain's XML has grown to %d bytes, and a file of format %d has room for %d", need, f, length)
		}
		length = (headerSize+need+block-1)/block*block - headerSize
	}
	if length > mostData {
		return nil, refused("the domain's XML has %d bytes", len(xml))
	}
	binary.NativeEndian.PutUint32(header[atLength:], uint32(length))
	binary.NativeEndian.PutUint32(header[atCookie:], uint32(cookieAt))
	out := make([]byte, headerSize+length)
	copy(out, header[:])
	copy(out[headerSize:], xml)
	if cookieAt > 0 {
		copy(out[headerSize+cookieAt:], h.cookie)
	}
	return out, nil
}

func (h *Head) number(at int) uint32 { return binary.NativeEndian.Uint32(h.header[at:]) }

func untilNUL(b []byte) []byte {
	text, _, _ := bytes.Cut(b, []byte{0})
	return text
}

func refused(format string, args ...any) error {
	return fmt.Errorf(format+": %w", append(args, errdefs.ErrFailedPrecondition)...)
}
