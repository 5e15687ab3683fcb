// SPDX-License-Identifier: Apache-2.0

package port

import (
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// newDevices makes files below a root, empty but for names.
func newDevices(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for file, content := range files {
		path := filepath.Join(root, file)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestAPortIsFoundByItsName(t *testing.T) {
	const name = "org.vmlet.agent.0"
	other := map[string]string{"sys/class/virtio-ports/vport0p1/name": "org.other\n", "dev/vport0p1": ""}
	tests := map[string]struct {
		files map[string]string
		want  string
	}{
		"by udev":           {map[string]string{"dev/virtio-ports/" + name: ""}, "dev/virtio-ports/" + name},
		"by the kernel":     {map[string]string{"sys/class/virtio-ports/vport0p2/name": name + "\n", "dev/vport0p2": ""}, "dev/vport0p2"},
		"without a device":  {map[string]string{"sys/class/virtio-ports/vport0p2/name": name + "\n"}, ""},
		"of another name":   {nil, ""},
		"of a similar name": {map[string]string{"sys/class/virtio-ports/vport0p2/name": name + "0\n", "dev/vport0p2": ""}, ""},
	}
	for what, tt := range tests {
		t.Run(what, func(t *testing.T) {
			files := map[string]string{}
			for _, m := range []map[string]string{other, tt.files} {
				maps.Copy(files, m)
			}
			root := newDevices(t, files)
			want := tt.want
			if want != "" {
				want = filepath.Join(root, want)
			}
			if got := find(root, name); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
}

func TestAwaitEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if path, err := Await(ctx, "no such port"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%q, %v", path, err)
	}
}

func TestAnOpenPortIsRootsAlone(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("the agent is root")
	}
	path := filepath.Join(t.TempDir(), "port")
	if err := os.WriteFile(path, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(path, 1234, 1234); err != nil {
		t.Fatal(err)
	}
	p, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close() //nolint:errcheck // the test is over
	info, err := p.Stat()
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("%v", info.Mode())
	}
}
