// SPDX-License-Identifier: Apache-2.0

package image

import (
	"bufio"
	"bytes"
	"errors"
	"io"

	"github.com/containerd/errdefs"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// maxZstdWindow is how far back a zstd stream may refer, in bytes of memory that it takes.
// It is what `zstd --long` uses; `zstd --ultra -22` needs no more.
const maxZstdWindow = 128 << 20

// unpack returns the bytes that a stream is the packed form of. Errors of the stream
// itself come through unchanged.
func unpack(r io.Reader, c compression) (io.ReadCloser, error) {
	if c == sniffed {
		buffered := bufio.NewReader(r)
		head, _ := buffered.Peek(4) //nolint:errcheck // what ends it early shows when it is read
		r, c = buffered, sniff(head)
	}
	switch c {
	case gzipped:
		z, err := gzip.NewReader(r)
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return nil, unpackError(c, err)
		}
		return &unpacker{z, z.Close, c}, nil
	case zstandard:
		// Concurrency 1: what runs beside it is the receiving and the storing.
		z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxZstdWindow))
		if err != nil {
			return nil, unpackError(c, err)
		}
		return &unpacker{z, func() error { z.Close(); return nil }, c}, nil
	default:
		return io.NopCloser(r), nil
	}
}

func sniff(head []byte) compression {
	switch {
	case bytes.HasPrefix(head, []byte("\x1f\x8b")):
		return gzipped
	case bytes.HasPrefix(head, []byte("\x28\xb5\x2f\xfd")):
		return zstandard
	default:
		return uncompressed
	}
}

type unpacker struct {
	io.Reader
	close func() error
	kind  compression
}

// Read implements io.Reader.
func (u *unpacker) Read(p []byte) (int, error) {
	n, err := u.Reader.Read(p)
	return n, unpackError(u.kind, err)
}

// Close implements io.Closer.
func (u *unpacker) Close() error { return u.close() }

// unpackError leaves the errors of the stream that is read from alone: they have a class.
func unpackError(c compression, err error) error {
	if err == nil || errors.Is(err, io.EOF) || !errdefs.IsUnknown(errdefs.Resolve(err)) {
		return err
	}
	return refused("the layer is labelled as %s and is not, or is damaged (%v)", c, err)
}
