// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func (w *world) addImages() {
	w.images = []*runtimeapi.Image{
		{Id: pulledID, RepoTags: []string{"registry.example/tiny:v1", "registry.example/tiny:latest"}, Size: 20 << 20},
		{Id: "sha256:bbbb" + strings.Repeat("0", 60), RepoDigests: []string{"registry.example/other@sha256:beef"}, Size: 3 << 30},
		{Id: "sha256:cccc" + strings.Repeat("0", 60), Size: 700},
	}
}

func TestImageLs(t *testing.T) {
	w := newWorld(t)
	w.addImages()
	for file, args := range map[string][]string{
		"image-ls.txt":  {"image", "ls"},
		"image-ls.json": {"image", "ls", "-o", "json"},
	} {
		got := w.ctl(t, args...)
		got.wantOK(t)
		golden(t, file, got.stdout)
	}
}

func TestImagePullTellsItsPhasesAndTheImage(t *testing.T) {
	w := newWorld(t)
	got := w.ctl(t, "image", "pull", "registry.example/tiny")
	got.wantOK(t)
	golden(t, "image-pull.txt", got.stdout)
	golden(t, "image-pull-progress.txt", got.stderr)
	got = w.ctl(t, "image", "pull", "registry.example/tiny", "-o", "json")
	got.wantOK(t)
	golden(t, "image-pull.json", got.stdout)
}

func TestImagePullThatFails(t *testing.T) {
	w := newWorld(t)
	w.fail("PullImage", codes.NotFound, "pull registry.example/tiny:latest: the registry has no such image")
	w.ctl(t, "image", "pull", "tiny").wantError(t, exitFailed, "the registry has no such image")
}

func TestImageImportSendsTheFile(t *testing.T) {
	disk := strings.Repeat("0123456789abcdef", 3*importChunk/32) // one and a half chunks
	file := filepath.Join(t.TempDir(), "disk.raw")
	if err := os.WriteFile(file, []byte(disk), 0o600); err != nil {
		t.Fatal(err)
	}
	w := newWorld(t)
	w.stdin = disk
	for _, source := range []string{file, "-"} {
		w.imported = ""
		got := w.ctl(t, "image", "import", source, "mine")
		got.wantOK(t)
		if w.imported != "mine "+disk {
			t.Errorf("%s: the node has %d bytes: %.20q...", source, len(w.imported), w.imported)
		}
		golden(t, "image-import.txt", got.stdout)
	}
}

func TestImageImportThatFails(t *testing.T) {
	folder := t.TempDir()
	w := newWorld(t)
	w.stdin = strings.Repeat("x", 9*importChunk)
	w.ctl(t, "image", "import", filepath.Join(folder, "absent"), "mine").wantError(t, exitFailed, "absent: no such file")
	w.ctl(t, "image", "import", folder, "mine").wantError(t, exitFailed, "is a folder")
	// Far more than fits on the way before the node has refused it.
	w.ctl(t, "image", "import", "-", "refused").wantError(t, exitFailed, "import refused: no name; really")
}

func TestImageRm(t *testing.T) {
	w := newWorld(t)
	w.addImages()
	got := w.ctl(t, "image", "rm", "registry.example/tiny:v1", "moon")
	got.wantError(t, exitFailed, `no image "moon"`, "vmletctl image ls")
	if got.stdout != "registry.example/tiny:v1\n" {
		t.Errorf("got %q", got.stdout)
	}
	if calls := w.called(); !slices.Equal(calls, []string{"RemoveImage registry.example/tiny:v1"}) {
		t.Errorf("called %q", calls)
	}
}
