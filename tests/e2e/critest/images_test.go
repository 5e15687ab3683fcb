// SPDX-License-Identifier: Apache-2.0

//go:build integration

package critest

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vmlet/vmlet/tests/harness"
)

// alias stands for a name that the suite has hard-coded. Which of the images are one and the
// same matters to its image specs, so a disk that is nobody else's stands for each other one.
type alias struct{ pattern, image string }

var aliases = []alias{
	// Three images, and three tags of one image.
	{"gcr.io/k8s-staging-cri-tools/test-image-1*", "data:1"},
	{"gcr.io/k8s-staging-cri-tools/test-image-2*", "data:2"},
	{"gcr.io/k8s-staging-cri-tools/test-image-3*", "data:3"},
	{"gcr.io/k8s-staging-cri-tools/test-image-tags:*", "data:4"},
	{"gcr.io/k8s-staging-cri-tools/*", "data:5"},
	// One image in two registries, which is started. It is removed while others are in use.
	{"registry.k8s.io/pause:*", "tiny:2"},
	{"k8s.gcr.io/pause:*", "tiny:2"},
	// What containers are made from.
	{"registry.k8s.io/e2e-test-images/*", "tiny:1"},
}

// withAliases pushes the images and configures a node to take them for the suite's.
func withAliases(t *testing.T) harness.NodeOption {
	t.Helper()
	registry := harness.TheRegistry()
	for i := 1; i <= 5; i++ {
		if err := registry.Push(fmt.Sprintf("data:%d", i), dataDisk(t, byte(i))); err != nil {
			t.Fatal(err)
		}
	}
	tiny, err := os.ReadFile(harness.Bin("tiny.qcow2"))
	if err != nil {
		t.Fatal(err)
	}
	// A cluster that no table refers to: the same disk, other bytes.
	if err := registry.Push("tiny:2", append(tiny, make([]byte, 64<<10)...)); err != nil {
		t.Fatal(err)
	}
	yaml := strings.Builder{}
	yaml.WriteString("images:\n  aliases:\n")
	for _, a := range aliases {
		fmt.Fprintf(&yaml, "    - {pattern: %q, name: %q}\n", a.pattern, registry.Host+"/"+a.image)
	}
	return harness.WithConfig(yaml.String())
}

// dataDisk is a small qcow2 disk that holds one byte over and over. It does not boot.
func dataDisk(t *testing.T, content byte) []byte {
	t.Helper()
	raw := filepath.Join(t.TempDir(), "raw")
	if err := os.WriteFile(raw, bytes.Repeat([]byte{content}, 64<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), "qemu-img", "convert", "-O", "qcow2", raw, raw+".qcow2").CombinedOutput()
	if err != nil {
		t.Fatalf("qemu-img: %v: %s", err, out)
	}
	disk, err := os.ReadFile(raw + ".qcow2")
	if err != nil {
		t.Fatal(err)
	}
	return disk
}
