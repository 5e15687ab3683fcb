// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vmlet/vmlet/tests/harness"
)

// pulledBytes is the size of the disk that is pulled.
const pulledBytes = 256 << 20

// pulls fetches a raw disk that nothing can compress from a registry on loopback, which
// shares the cores, in turns with `cp` and `sha256sum` of the same bytes.
func pulls(t *testing.T, n int) outcome {
	node := startNode(t)
	disk := filepath.Join(node.LibDir, "noise.raw")
	writeNoise(t, disk)
	image := pushDisk(t, disk)
	var pulled, floor samples
	for range n {
		floor = append(floor, throughput(func() { copyAndHash(t, disk) }))
		pulled = append(pulled, throughput(func() { node.Pull(image) }))
		_, err := node.Images.RemoveImage(t.Context(), &runtimeapi.RemoveImageRequest{Image: &runtimeapi.ImageSpec{Image: image}})
		must(t, err)
	}
	r := newResult("pull_throughput", unitMBs, pulled, floor)
	r.note = "fsync included; the registry shares the cores"
	return outcome{results: []Result{r}}
}

// throughput is in MB/s, millions of bytes.
func throughput(do func()) float64 {
	begin := time.Now()
	do()
	return pulledBytes / 1e6 / time.Since(begin).Seconds()
}

func copyAndHash(t *testing.T, disk string) {
	t.Helper()
	to := disk + ".copy"
	must(t, exec.CommandContext(t.Context(), "cp", disk, to).Run())
	must(t, exec.CommandContext(t.Context(), "sha256sum", to).Run())
	must(t, os.Remove(to))
}

func writeNoise(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	must(t, err)
	_, err = io.CopyBuffer(f, io.LimitReader(rand.NewChaCha8([32]byte{1}), pulledBytes), make([]byte, 1<<20))
	must(t, err)
	must(t, f.Sync())
	must(t, f.Close())
}

// pushDisk makes an artifact of a disk and has the registry send it from the file, which
// costs the registry the least.
func pushDisk(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	must(t, err)
	layer := static.NewLayer(data, "application/vnd.vmlet.disk.raw.v1")
	digest, err := layer.Digest()
	must(t, err)
	image, err := mutate.AppendLayers(empty.Image, layer)
	must(t, err)
	must(t, harness.TheRegistry().PushImage("noise:1", image))
	harness.TheRegistry().Spoil(t, func(inner http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, digest.String()) {
				http.ServeFile(w, r, path)
				return
			}
			inner.ServeHTTP(w, r)
		})
	})
	return harness.TheRegistry().Host + "/noise:1"
}
