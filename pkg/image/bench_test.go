// SPDX-License-Identifier: Apache-2.0

package image

import (
	"io"
	"log"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	oci "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"

	"github.com/vmlet/vmlet/pkg/vm"
)

// BenchmarkPull compares pulls of an incompressible raw disk from a registry on loopback,
// which shares the CPUs, with the least that could be done: `cp` of the same bytes and
// `sha256sum` of the copy. VMLET_BENCH_MIB sets the size, 64 by default.
func BenchmarkPull(b *testing.B) {
	dir := b.TempDir()
	size := int64(64)
	if s := os.Getenv("VMLET_BENCH_MIB"); s != "" {
		n, err := strconv.ParseInt(s, 10, 32)
		check(b, err)
		size = n
	}
	size *= mib
	disk := filepath.Join(dir, "disk")
	writeNoise(b, disk, size)

	b.Run("floor", func(b *testing.B) {
		b.SetBytes(size)
		defer reportCPU(b)()
		for b.Loop() {
			target := filepath.Join(b.TempDir(), "copy")
			check(b, exec.CommandContext(b.Context(), "cp", disk, target).Run())
			check(b, exec.CommandContext(b.Context(), "sha256sum", target).Run())
			check(b, os.Remove(target))
		}
	})
	b.Run("floor and fsync", func(b *testing.B) {
		b.SetBytes(size)
		defer reportCPU(b)()
		for b.Loop() {
			target := filepath.Join(b.TempDir(), "copy")
			check(b, exec.CommandContext(b.Context(), "cp", disk, target).Run())
			check(b, exec.CommandContext(b.Context(), "sha256sum", target).Run())
			check(b, exec.CommandContext(b.Context(), "sync", target).Run())
			check(b, os.Remove(target))
		}
	})
	for _, packing := range []compression{uncompressed, gzipped, zstandard} {
		b.Run(strings.TrimSpace("raw "+string(packing)), func(b *testing.B) {
			layer, kind := pack(b, disk, packing)
			server := serveFile(b, layer)
			ref := strings.TrimPrefix(server.URL, "http://") + "/bench:v1"
			pushFile(b, ref, layer, kind)
			b.SetBytes(size)
			defer reportCPU(b)()
			for b.Loop() {
				s, _, err := Open(b.Context(), Config{Dir: b.TempDir()})
				check(b, err)
				img, err := s.Pull(b.Context(), ref, vm.RegistryAuth{}, nil)
				check(b, err)
				check(b, s.Remove(b.Context(), img.ID))
				s.Close()
			}
		})
	}
}

// serveFile is a registry that sends a file for every blob that it is asked for once it
// has been filled: go-containerregistry's own reads all of it into memory before.
func serveFile(b *testing.B, path string) *httptest.Server {
	b.Helper()
	stored := registry.New(registry.Logger(log.New(io.Discard, "", 0)), registry.WithBlobHandler(registry.NewDiskBlobHandler(b.TempDir())))
	layer, err := fileLayer{path, rawType}.Digest()
	check(b, err)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.Method == http.MethodGet && strings.HasSuffix(req.URL.Path, layer.String()) {
			http.ServeFile(w, req, path)
			return
		}
		stored.ServeHTTP(w, req)
	}))
	b.Cleanup(server.Close)
	return server
}

// reportCPU returns the function that reports what the runs since have used of the CPUs,
// children included: of use where the machine is not ours alone.
func reportCPU(b *testing.B) func() {
	b.Helper()
	used := func() (seconds float64) {
		for _, who := range []int{unix.RUSAGE_SELF, unix.RUSAGE_CHILDREN} {
			var u unix.Rusage
			check(b, unix.Getrusage(who, &u))
			seconds += float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
		}
		return seconds
	}
	before := used()
	return func() { b.ReportMetric((used()-before)/float64(b.N), "cpu-s/op") }
}

func check(b *testing.B, err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

func writeNoise(b *testing.B, path string, size int64) {
	b.Helper()
	f, err := os.Create(path)
	check(b, err)
	_, err = io.CopyBuffer(f, io.LimitReader(rand.NewChaCha8([32]byte{1}), size), make([]byte, mib))
	check(b, err)
	check(b, f.Close())
}

// pack makes the layer of a disk file.
func pack(b *testing.B, disk string, packing compression) (path string, kind types.MediaType) {
	b.Helper()
	if packing == uncompressed {
		return disk, rawType
	}
	source, err := os.Open(disk)
	check(b, err)
	target, err := os.Create(filepath.Join(b.TempDir(), "layer"))
	check(b, err)
	var w io.WriteCloser = gzip.NewWriter(target)
	if packing == zstandard {
		w, err = zstd.NewWriter(target)
		check(b, err)
	}
	_, err = io.Copy(w, source)
	check(b, err)
	check(b, w.Close())
	check(b, source.Close())
	check(b, target.Close())
	return target.Name(), rawType + "+" + types.MediaType(packing)
}

// fileLayer is a layer that is a file.
type fileLayer struct {
	path string
	kind types.MediaType
}

func (l fileLayer) Compressed() (io.ReadCloser, error)   { return os.Open(l.path) }
func (l fileLayer) MediaType() (types.MediaType, error)  { return l.kind, nil }
func (l fileLayer) DiffID() (oci.Hash, error)            { return l.Digest() }
func (l fileLayer) Uncompressed() (io.ReadCloser, error) { return l.Compressed() }

func (l fileLayer) Size() (int64, error) {
	info, err := os.Stat(l.path)
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

func (l fileLayer) Digest() (oci.Hash, error) {
	f, err := os.Open(l.path)
	if err != nil {
		return oci.Hash{}, err
	}
	digest, _, err := oci.SHA256(f)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	return digest, err
}

func pushFile(b *testing.B, ref, path string, kind types.MediaType) {
	b.Helper()
	tag, err := name.NewTag(ref)
	check(b, err)
	img, err := mutate.AppendLayers(empty.Image, fileLayer{path, kind})
	check(b, err)
	check(b, remote.Write(tag, img))
}
