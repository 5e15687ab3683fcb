// SPDX-License-Identifier: Apache-2.0

package image

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"time"

	"github.com/containerd/errdefs"
	oci "github.com/google/go-containerregistry/pkg/v1"
)

var (
	errStalled = fmt.Errorf("it sent nothing for too long: %w", errdefs.ErrUnavailable)
	errCut     = fmt.Errorf("its answer ended early: %w", errdefs.ErrUnavailable)
)

// progressMark is how many bytes must have come since the last failure for it to be
// forgotten.
const progressMark = 1 << 20

// blobReader reads a blob from its first to its last byte, over as many connections as it
// takes, and ends with io.EOF only if the digest is right. It is for one goroutine.
type blobReader struct {
	ctx     context.Context //nolint:containedctx // of the pull that reads; io.Reader has no other place
	session *session
	digest  oci.Hash
	size    int64
	meter   *meter
	sum     hash.Hash

	body   io.ReadCloser
	giveUp context.CancelCauseFunc // of the connection that body is on
	silent *time.Timer             // calls giveUp; runs only while a read waits

	offset int64
	failed int   // attempts in a row
	mark   int64 // offset that clears failed
	err    error // final
}

func (s *session) blob(ctx context.Context, digest oci.Hash, size int64, m *meter) (*blobReader, error) {
	sum, err := oci.Hasher(digest.Algorithm)
	if err != nil {
		return nil, refused("digest algorithm %q", digest.Algorithm)
	}
	return &blobReader{ctx: ctx, session: s, digest: digest, size: size, meter: m, sum: sum}, nil
}

// Read implements io.Reader.
func (b *blobReader) Read(p []byte) (n int, err error) {
	for b.err == nil && n == 0 {
		if b.offset == b.size {
			b.err = b.verdict()
			break
		}
		n, err = b.readOnce(p)
		if err != nil {
			b.err = b.again(err)
		}
	}
	if n > 0 {
		return n, nil
	}
	return 0, b.err
}

// readOnce reads from the connection there is, or from a new one.
func (b *blobReader) readOnce(p []byte) (n int, err error) {
	if b.body == nil {
		if err := b.open(); err != nil {
			return 0, err
		}
	}
	p = p[:min(int64(len(p)), b.size-b.offset)]
	b.silent.Reset(b.session.retry.stall)
	n, err = b.body.Read(p)
	b.silent.Stop()

	b.sum.Write(p[:n])
	b.offset += int64(n)
	b.meter.add(int64(n))
	if b.offset >= b.mark {
		b.failed = 0
	}
	if b.offset == b.size {
		return n, nil
	}
	return n, orCut(err)
}

// again decides, after a failure, whether there will be another attempt, and waits for
// it: nil means that there will.
func (b *blobReader) again(err error) error {
	b.disconnect()
	if !errdefs.IsUnavailable(err) {
		return err
	}
	b.failed++
	b.mark = b.offset + progressMark
	if b.failed >= b.session.retry.attempts {
		return fmt.Errorf("broke off at %d of %d bytes, %d times in a row: %w", b.offset, b.size, b.failed, err)
	}
	return b.session.retry.wait(b.ctx, b.failed)
}

// open asks for the bytes that are still missing.
func (b *blobReader) open() error {
	ctx, giveUp := context.WithCancelCause(b.ctx)
	header, want := http.Header{}, []int{http.StatusOK}
	if b.offset > 0 {
		header.Set("Range", fmt.Sprintf("bytes=%d-%d", b.offset, b.size-1))
		want = append(want, http.StatusPartialContent)
	}
	b.giveUp = giveUp
	b.silent = time.AfterFunc(b.session.retry.stall, func() { giveUp(errStalled) })
	resp, err := b.session.get(ctx, http.MethodGet, "blobs", b.digest.String(), header, want...) //nolint:bodyclose // disconnect does
	b.silent.Stop()
	if err != nil {
		return err
	}
	b.body = &answer{resp.Body, ctx, b.session.repo.RegistryStr()}
	return b.position(resp)
}

// position checks that the answer is about as many bytes as the manifest says, and skips
// what is here already if the registry ignored the range.
func (b *blobReader) position(resp *http.Response) error {
	have := int64(0)
	if resp.StatusCode == http.StatusPartialContent {
		have = b.offset
		var first int64
		if _, err := fmt.Sscanf(resp.Header.Get("Content-Range"), "bytes %d-", &first); err != nil || first != have {
			return refused("asked for the bytes from %d on, the registry sent %q", have, resp.Header.Get("Content-Range"))
		}
	}
	if resp.ContentLength >= 0 && have+resp.ContentLength != b.size {
		return fmt.Errorf("the registry has %d bytes, its manifest says %d: %w", have+resp.ContentLength, b.size, errdefs.ErrDataLoss)
	}
	for have < b.offset {
		b.silent.Reset(b.session.retry.stall)
		n, err := io.CopyN(io.Discard, b.body, min(progressMark, b.offset-have))
		b.silent.Stop()
		have += n
		if err != nil {
			return orCut(err)
		}
	}
	return nil
}

func (b *blobReader) verdict() error {
	if got := b.digest.Algorithm + ":" + hex.EncodeToString(b.sum.Sum(nil)); got != b.digest.String() {
		return lied(b.digest.String(), got)
	}
	return io.EOF
}

func (b *blobReader) disconnect() {
	if b.giveUp == nil {
		return
	}
	b.silent.Stop()
	b.giveUp(nil)
	if b.body != nil {
		_ = b.body.Close() //nolint:errcheck // what is not read to its end has nothing more to say
		b.body = nil
	}
	b.giveUp = nil
}

// Close ends the connection.
func (b *blobReader) Close() { b.disconnect() }

// answer gives the errors of a body their class, and tells why its request was ended where
// net/http says "context canceled".
type answer struct {
	io.ReadCloser
	ctx      context.Context //nolint:containedctx // of the request that the body answers
	registry string
}

// Read implements io.Reader.
func (a *answer) Read(p []byte) (int, error) {
	n, err := a.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = requestError(a.ctx, a.registry, err)
	}
	return n, err
}

// orCut is what a clean end means where more was to come.
func orCut(err error) error {
	if errors.Is(err, io.EOF) {
		return errCut
	}
	return err
}
