// SPDX-License-Identifier: Apache-2.0

package image

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	oci "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/zstd"

	"github.com/vmlet/vmlet/pkg/qcow2head"
)

// testRegistry is go-containerregistry's registry on loopback, behind a handler that
// counts requests and can misbehave.
type testRegistry struct {
	t    *testing.T
	host string

	mu       sync.Mutex
	behave   func(w http.ResponseWriter, req *http.Request, next http.Handler)
	requests []string // "GET manifests", "GET blobs bytes=5-9"
}

func newRegistry(t *testing.T) *testRegistry {
	t.Helper()
	r := &testRegistry{t: t}
	stored := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.mu.Lock()
		r.requests = append(r.requests, summary(req))
		behave := r.behave
		r.mu.Unlock()
		if behave == nil {
			stored.ServeHTTP(w, req)
			return
		}
		behave(w, req, stored)
	}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	t.Cleanup(server.Close)
	r.host = strings.TrimPrefix(server.URL, "http://")
	return r
}

func summary(req *http.Request) string {
	words := strings.Split(req.URL.Path, "/")
	kind := "ping"
	if len(words) > 4 {
		kind = words[len(words)-2]
	}
	return strings.TrimSpace(req.Method + " " + kind + " " + req.Header.Get("Range"))
}

// misbehave puts a handler before the registry; nil takes it away. It also forgets the
// requests so far.
func (r *testRegistry) misbehave(behave func(w http.ResponseWriter, req *http.Request, next http.Handler)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.behave, r.requests = behave, nil
}

// flush sends what was written so far.
func flush(w http.ResponseWriter) {
	if err := http.NewResponseController(w).Flush(); err != nil {
		panic(err)
	}
}

// onBlob lets misbehave affect downloads of blobs only.
func onBlob(behave http.HandlerFunc) func(http.ResponseWriter, *http.Request, http.Handler) {
	return func(w http.ResponseWriter, req *http.Request, next http.Handler) {
		if strings.HasPrefix(summary(req), "GET blobs") {
			behave(w, req)
			return
		}
		next.ServeHTTP(w, req)
	}
}

// count is how many requests began so since the last misbehave.
func (r *testRegistry) count(prefix string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, request := range r.requests {
		if strings.HasPrefix(request, prefix) {
			n++
		}
	}
	return n
}

func (r *testRegistry) all() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.requests...)
}

// push stores an image under repository:tag, and returns the full reference.
func (r *testRegistry) push(repoTag string, img oci.Image) string {
	r.t.Helper()
	ref := r.host + "/" + repoTag
	must0(r.t, remote.Write(must(name.ParseReference(ref))(r.t), img))
	return ref
}

// artifact is an image whose single layer is what the media type says.
func artifact(t *testing.T, mediaType types.MediaType, content []byte) oci.Image {
	t.Helper()
	img := mutate.MediaType(empty.Image, types.OCIManifestSchema1)
	img = mutate.ConfigMediaType(img, "application/vnd.oci.empty.v1+json")
	return must(mutate.AppendLayers(img, static.NewLayer(content, mediaType)))(t)
}

// containerDisk is a container image for an architecture with these layers, lowest first.
func containerDisk(t *testing.T, arch string, layers ...[]byte) oci.Image {
	t.Helper()
	img := empty.Image
	for _, l := range layers {
		img = must(mutate.AppendLayers(img, static.NewLayer(l, types.DockerLayer)))(t)
	}
	cfg := must(img.ConfigFile())(t).DeepCopy()
	cfg.Architecture, cfg.OS = arch, "linux"
	return must(mutate.ConfigFile(img, cfg))(t)
}

func digestOf(t *testing.T, img interface{ Digest() (oci.Hash, error) }) string {
	t.Helper()
	return must(img.Digest())(t).String()
}

// tarball makes a layer of files; a name that ends in / is a folder, content that begins
// with "->" makes a symlink.
func tarball(t *testing.T, files ...string) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for i := 0; i < len(files); i += 2 {
		h := &tar.Header{Name: files[i], Mode: 0o644, Size: int64(len(files[i+1])), Typeflag: tar.TypeReg}
		target, isLink := strings.CutPrefix(files[i+1], "->")
		switch {
		case isLink:
			h.Typeflag, h.Linkname, h.Size = tar.TypeSymlink, target, 0
		case strings.HasSuffix(files[i], "/"):
			h.Typeflag = tar.TypeDir
		}
		must0(t, w.WriteHeader(h))
		if h.Typeflag == tar.TypeReg {
			must(io.WriteString(w, files[i+1]))(t)
		}
	}
	must0(t, w.Close())
	return buf.Bytes()
}

func gzipOf(t *testing.T, b []byte) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := must(gzip.NewWriterLevel(&buf, gzip.BestSpeed))(t)
	must(w.Write(b))(t)
	must0(t, w.Close())
	return buf.Bytes()
}

func zstdOf(t *testing.T, b []byte) []byte {
	t.Helper()
	w := must(zstd.NewWriter(nil))(t)
	return w.EncodeAll(b, nil)
}

// qcow2Disk is a qcow2 file of virtual bytes with a valid header, and payload bytes of
// noise behind its tables that make it differ from one seed to the next.
func qcow2Disk(seed, virtual uint64, payload int) []byte {
	const cluster = 1 << 16
	b := make([]byte, 4*cluster+payload)
	copy(b, qcow2head.Magic)
	binary.BigEndian.PutUint32(b[4:], 3)
	binary.BigEndian.PutUint32(b[20:], 16)
	binary.BigEndian.PutUint64(b[24:], virtual)
	binary.BigEndian.PutUint32(b[36:], uint32((virtual-1)/(cluster/8*cluster)+1))
	binary.BigEndian.PutUint64(b[40:], 3*cluster)
	binary.BigEndian.PutUint64(b[48:], cluster)
	binary.BigEndian.PutUint32(b[56:], 1)
	binary.BigEndian.PutUint32(b[96:], 4)
	binary.BigEndian.PutUint32(b[100:], 112)
	noise(seed, b[4*cluster:])
	binary.BigEndian.PutUint64(b[2*cluster:], seed)
	return b
}

// rawDisk is a disk of noise with a boot sector's signature.
func rawDisk(seed uint64, size int) []byte {
	b := make([]byte, size)
	noise(seed, b)
	copy(b, []byte{0xfa, 0x31, 0xc0, 0x8e}) // no magic by chance
	b[510], b[511] = 0x55, 0xaa
	return b
}

func noise(seed uint64, b []byte) {
	var key [32]byte
	binary.BigEndian.PutUint64(key[:], seed)
	must2(rand.NewChaCha8(key).Read(b))
}

// openStore opens a store in a folder of its own, which retries at once.
func openStore(t *testing.T, change ...func(*Config)) *Store {
	t.Helper()
	cfg := Config{Dir: t.TempDir()}
	for _, c := range change {
		c(&cfg)
	}
	return reopen(t, cfg)
}

func reopen(t *testing.T, cfg Config) *Store {
	t.Helper()
	s, _, err := Open(t.Context(), cfg)
	must0(t, err)
	s.retry = retryPolicy{attempts: 3, first: time.Millisecond, longest: 5 * time.Millisecond, stall: 20 * time.Second}
	t.Cleanup(s.Close)
	return s
}

// files lists what is in the store's folders, as "blobs 1, records 1, parts 0".
func files(t *testing.T, s *Store) string {
	t.Helper()
	n := func(folder string) int { return len(must(os.ReadDir(folder))(t)) }
	return fmt.Sprintf("blobs %d, records %d, parts %d", n(s.layout.blobs()), n(s.layout.records()), n(s.layout.parts()))
}

func wantFiles(t *testing.T, s *Store, want string) {
	t.Helper()
	if got := files(t, s); got != want {
		t.Errorf("the store holds %s, want %s", got, want)
	}
}

// must returns the value or ends the test: must(f())(t).
func must[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		must0(t, err)
		return v
	}
}

func must0(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func must2[T any](_ T, err error) {
	if err != nil {
		panic(err)
	}
}
