// SPDX-License-Identifier: Apache-2.0

package deps

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// ofOneAPI are words of the node agents that vmlet serves beside kubelet. What those ask for is said to the core in its own.
var ofOneAPI = regexp.MustCompile(`(?i)arktos|virtlet|v1alpha2|k8s_pod_tenant|futurewei`)

// core are the folders that know of no API, or of another one.
var core = []string{
	"pkg/agentlink", "pkg/annotations", "pkg/cgroup", "pkg/cloudinit", "pkg/config", "pkg/disk", "pkg/guest", "pkg/image", "pkg/libvirt", "pkg/lifecycle",
	"pkg/network", "pkg/share", "pkg/store", "pkg/stream", "pkg/streaming", "pkg/vm", "pkg/vmapi",
}

// TestTheCoreKnowsNoAPIByItsWords: the imports are held by the rules; this holds that nothing is done for one API by its name.
func TestTheCoreKnowsNoAPIByItsWords(t *testing.T) {
	files := 0
	for _, dir := range core {
		err := filepath.WalkDir("../../"+dir, func(path string, _ fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, ".go") {
				return err
			}
			text, err := os.ReadFile(path)
			files++
			if word := ofOneAPI.Find(text); word != nil {
				t.Errorf("%s says %q: say it in general words, and let the handlers of that API put theirs into them", path, word)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if files < 300 {
		t.Errorf("only %d files were read", files)
	}
	for _, text := range []string{"case \"VirtletDiskDriver\":", "runtime.v1alpha2"} {
		if !ofOneAPI.MatchString(text) {
			t.Errorf("%q would not be seen", text)
		}
	}
}
