// SPDX-License-Identifier: Apache-2.0

package image

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/vm"
)

var noAuth vm.RegistryAuth

func importOK(t *testing.T, s *Store, name string, disk []byte) vm.Image {
	t.Helper()
	img, err := s.Import(t.Context(), name, bytes.NewReader(disk), nil)
	must0(t, err)
	return img
}

func TestSparseWritesReadBackAsWritten(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for round := range 50 {
		content := make([]byte, random.IntN(20*block))
		for range random.IntN(6) { // islands of noise in a sea of zeros
			at := random.IntN(len(content) + 1)
			noise(uint64(round), content[at:min(len(content), at+random.IntN(3*block))])
		}
		f := must(os.Create(filepath.Join(t.TempDir(), "f")))(t)
		for at := 0; at < len(content); {
			n := min(len(content)-at, 1+random.IntN(3*block))
			must0(t, writeSparse(f, content[at:at+n], int64(at)))
			at += n
		}
		must0(t, f.Truncate(int64(len(content))))
		if got := must(os.ReadFile(f.Name()))(t); !bytes.Equal(got, content) {
			t.Fatalf("round %d: %d bytes differ", round, len(content))
		}
		must0(t, f.Close())
	}
}

func TestZerosTakeNoRoom(t *testing.T) {
	s := openStore(t)
	disk := append(rawDisk(1, mib), make([]byte, 63*mib)...)
	img := importOK(t, s, "tiny", disk)
	if img.Size > 2*mib || img.VirtualSize != 64*mib {
		t.Errorf("%d bytes of disk take %d", img.VirtualSize, img.Size)
	}
	if got := must(os.ReadFile(img.Path))(t); !bytes.Equal(got, disk) {
		t.Error("they do not read back")
	}
	usage := must(s.Usage(t.Context()))(t)
	if usage.UsedBytes < mib || usage.UsedBytes > 3*mib {
		t.Errorf("usage %d bytes", usage.UsedBytes)
	}
}

func TestReadAheadPassesOnBytesAndErrors(t *testing.T) {
	content := rawDisk(1, 3*aheadChunk+17)
	broken := errors.New("broken")
	whole := func() io.Reader { return bytes.NewReader(content) }
	for name, tc := range map[string]struct {
		source func() io.Reader
		want   []byte
		err    error
	}{
		"to the end":          {whole, content, nil},
		"in small reads":      {func() io.Reader { return iotest.HalfReader(whole()) }, content, nil},
		"data with the end":   {func() io.Reader { return iotest.DataErrReader(whole()) }, content, nil},
		"to an error":         {func() io.Reader { return io.MultiReader(whole(), iotest.ErrReader(broken)) }, content, broken},
		"to an early end":     {func() io.Reader { return io.MultiReader(whole(), iotest.ErrReader(io.ErrUnexpectedEOF)) }, content, io.ErrUnexpectedEOF},
		"to an error at once": {func() io.Reader { return iotest.ErrReader(broken) }, nil, broken},
		"to a wrapped end":    {func() io.Reader { return iotest.ErrReader(fmt.Errorf("broken: %w", io.EOF)) }, nil, io.EOF},
	} {
		for how, read := range map[string]func(*readAhead) ([]byte, error){
			"Read": func(r *readAhead) ([]byte, error) { return io.ReadAll(struct{ io.Reader }{r}) },
			"WriteTo": func(r *readAhead) ([]byte, error) {
				var b bytes.Buffer
				_, err := r.WriteTo(&b)
				return b.Bytes(), err
			},
		} {
			r := newReadAhead(tc.source(), func() {})
			got, err := read(r)
			if !errors.Is(err, tc.err) || !bytes.Equal(got, tc.want) {
				t.Errorf("%s, %s: %d bytes and %v, want %d and %v", name, how, len(got), err, len(tc.want), tc.err)
			}
			r.Close()
		}
	}
}

func TestReadAheadEndsWhenItIsClosed(t *testing.T) {
	pr, pw := io.Pipe()
	r := newReadAhead(pr, func() { must0(t, pw.CloseWithError(io.ErrClosedPipe)) })
	r.Close() // hangs if it does not
	endless := newReadAhead(iotest.TimeoutReader(struct{ io.Reader }{zeroReader{}}), func() {})
	endless.Close()
}

type zeroReader struct{}

func (zeroReader) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestImport(t *testing.T) {
	s := openStore(t)
	disk := qcow2Disk(1, mib, mib)
	var told []vm.PullProgress
	img, err := s.Import(t.Context(), "tiny", bytes.NewReader(disk), func(p vm.PullProgress) { told = append(told, p) })
	must0(t, err)
	wantDisk(t, img, disk, vm.FormatQCOW2, mib)
	if len(img.Tags) != 1 || img.Tags[0] != "docker.io/library/tiny:latest" || len(img.Digests) != 0 {
		t.Errorf("tags %v, digests %v", img.Tags, img.Digests)
	}
	if last := told[len(told)-1]; last.Phase != "done" || last.Done != int64(len(disk)) {
		t.Errorf("ended with %+v", last)
	}
	again := importOK(t, s, "tiny:v2", disk)
	if again.ID != img.ID || len(again.Tags) != 2 || !again.PulledAt.Equal(img.PulledAt) {
		t.Errorf("the same disk again: %+v", again)
	}
}

func TestAFailedImportLeavesNothing(t *testing.T) {
	s := openStore(t)
	for name, tc := range map[string]struct {
		image  string
		source io.Reader
		class  func(error) bool
	}{
		"a text file":          {"x", strings.NewReader("hello"), errdefs.IsFailedPrecondition},
		"nothing":              {"x", strings.NewReader(""), errdefs.IsFailedPrecondition},
		"a name that is none":  {"X Y", bytes.NewReader(rawDisk(1, mib)), errdefs.IsInvalidArgument},
		"a name with a digest": {"x@" + someDigest, bytes.NewReader(rawDisk(1, mib)), errdefs.IsInvalidArgument},
		"a source that breaks": {"x", io.MultiReader(bytes.NewReader(rawDisk(1, mib)), iotest.ErrReader(io.ErrUnexpectedEOF)), func(err error) bool { return errors.Is(err, io.ErrUnexpectedEOF) }},
	} {
		if _, err := s.Import(t.Context(), tc.image, tc.source, nil); !tc.class(err) {
			t.Errorf("%s: got %v", name, err)
		}
		wantFiles(t, s, "blobs 0, records 0, parts 0")
	}
	ended, end := context.WithCancel(t.Context())
	end()
	if _, err := s.Import(ended, "x", zeroReader{}, nil); !errdefs.IsCanceled(err) {
		t.Errorf("given up: got %v, want Canceled", err)
	}
	wantFiles(t, s, "blobs 0, records 0, parts 0")
}

func TestUsageCountsWhatIsThere(t *testing.T) {
	s := openStore(t)
	empty := must(s.Usage(t.Context()))(t)
	img := importOK(t, s, "tiny", rawDisk(1, 4*mib))
	full := must(s.Usage(t.Context()))(t)
	if grown := full.UsedBytes - empty.UsedBytes; grown < 4*mib || grown > 5*mib {
		t.Errorf("grew by %d bytes", grown)
	}
	if full.UsedInodes != empty.UsedInodes+2 || full.MountPoint != s.cfg.Dir || full.At.Before(empty.At) {
		t.Errorf("%+v after %+v", full, empty)
	}
	must0(t, s.Remove(t.Context(), img.ID))
	if got := must(s.Usage(t.Context()))(t); got.UsedBytes != empty.UsedBytes || got.UsedInodes != empty.UsedInodes {
		t.Errorf("%+v after the removal, %+v before all", got, empty)
	}
}

func TestUsageIsTakenAgainAfterAWhile(t *testing.T) {
	s := openStore(t)
	now := time.Now()
	s.now = func() time.Time { return now }
	before := must(s.Usage(t.Context()))(t)
	must0(t, os.WriteFile(filepath.Join(s.layout.parts(), "pulling"), make([]byte, mib), 0o600))
	now = now.Add(usageAge - 1)
	if got := must(s.Usage(t.Context()))(t); got != before {
		t.Errorf("within %v: %+v, want %+v", usageAge, got, before)
	}
	now = now.Add(1)
	if got := must(s.Usage(t.Context()))(t); got.UsedBytes < before.UsedBytes+mib || !got.At.Equal(now) {
		t.Errorf("after %v: %+v", usageAge, got)
	}
}

func TestATagMovesEvenIfTheClockWentBack(t *testing.T) {
	s := openStore(t)
	importOK(t, s, "x", rawDisk(1, mib))
	s.now = func() time.Time { return time.Unix(1, 0) }
	moved := importOK(t, s, "x", rawDisk(2, mib))
	for _, store := range []*Store{s, reopen(t, s.cfg)} {
		if got := must(store.Resolve(t.Context(), "x"))(t); got.ID != moved.ID {
			t.Errorf("the tag is still the old image's")
		}
	}
}

func TestConcurrentImportsAndRemovalsOfOneDisk(t *testing.T) {
	s := openStore(t)
	disk := rawDisk(1, 64<<10)
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for range 5 {
				img, err := s.Import(t.Context(), "x:"+string(rune('a'+i)), bytes.NewReader(disk), nil)
				if err == nil {
					err = s.Remove(t.Context(), img.ID)
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	wantFiles(t, s, "blobs 0, records 0, parts 0")
	if got := must(s.List(t.Context()))(t); len(got) != 0 {
		t.Errorf("left: %v", got)
	}
}
