// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	oci "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// Registry is a real OCI registry on loopback whose answers a test may spoil.
type Registry struct {
	Host   string
	server *http.Server
	spoil  atomic.Pointer[func(http.Handler) http.Handler]
}

func startRegistry() (*Registry, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // bound at once
	if err != nil {
		return nil, err
	}
	inner := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	r := &Registry{Host: listener.Addr().String()}
	r.server = &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) { //nolint:gosec // loopback, for one test run
		if spoil := r.spoil.Load(); spoil != nil {
			(*spoil)(inner).ServeHTTP(w, req)
			return
		}
		inner.ServeHTTP(w, req)
	})}
	go func() { _ = r.server.Serve(listener) }() //nolint:errcheck // ends with Close
	err = r.pushDisk("tiny:1", "tiny.qcow2")
	return r, err
}

// Close ends the registry.
func (r *Registry) Close() { _ = r.server.Close() } //nolint:errcheck // the process ends

// Spoil puts a handler before the registry until the test ends.
func (r *Registry) Spoil(t *testing.T, wrap func(http.Handler) http.Handler) {
	r.spoil.Store(&wrap)
	t.Cleanup(func() { r.spoil.Store(nil) })
}

// TheRegistry is the registry of this test binary. It holds TinyImage.
func TheRegistry() *Registry { return the.registry }

// TinyImage is the name of the tiny guest's image.
func TinyImage() string { return the.registry.Host + "/tiny:1" }

// PullQGAImage pulls the tiny guest's image without vmlet-agent, and returns its name.
func (n *Node) PullQGAImage() string {
	n.t.Helper()
	if err := pushQGA(); err != nil {
		n.t.Fatal(err)
	}
	image := the.registry.Host + "/tiny:qga"
	n.Pull(image)
	return image
}

var pushQGA = sync.OnceValue(func() error { return the.registry.pushDisk("tiny:qga", "tiny-qga.qcow2") })

func (r *Registry) pushDisk(nameAndTag, file string) error {
	disk, err := os.ReadFile(Bin(file))
	if err != nil {
		return fmt.Errorf("%w (make guest-image builds it)", err)
	}
	return r.Push(nameAndTag, disk)
}

// Push puts a disk into the registry as NAME:TAG, by the containerDisk convention.
func (r *Registry) Push(nameAndTag string, disk []byte) error {
	var layer bytes.Buffer
	tw := tar.NewWriter(&layer)
	if err := tw.WriteHeader(&tar.Header{Name: "disk/disk.qcow2", Mode: 0o444, Size: int64(len(disk)), Typeflag: tar.TypeReg}); err != nil {
		return err
	}
	if _, err := tw.Write(disk); err != nil {
		return err
	}
	if err := tw.Close(); err != nil {
		return err
	}
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(layer.Bytes())), nil })
	if err != nil {
		return err
	}
	img, err := mutate.AppendLayers(empty.Image, l)
	if err != nil {
		return err
	}
	return r.PushImage(nameAndTag, img)
}

// PushImage puts any image into the registry.
func (r *Registry) PushImage(nameAndTag string, img oci.Image) error {
	cfg, err := img.ConfigFile()
	if err != nil {
		return err
	}
	cfg = cfg.DeepCopy()
	if cfg.Architecture == "" {
		cfg.OS, cfg.Architecture = "linux", "amd64"
	}
	if img, err = mutate.ConfigFile(img, cfg); err != nil {
		return err
	}
	ref, err := name.ParseReference(r.Host + "/" + nameAndTag)
	if err != nil {
		return err
	}
	return remote.Write(ref, img)
}
