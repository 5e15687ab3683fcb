// SPDX-License-Identifier: Apache-2.0

package libvirt

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/containerd/errdefs"
)

func TestDaemonIsWhoListensOnTheSocketOfTheURI(t *testing.T) {
	if pid, err := daemonPID(t.Context(), silentDaemon(t)); err != nil || pid != os.Getpid() {
		t.Errorf("got %d, %v; want %d", pid, err, os.Getpid())
	}
}

func TestDaemonOfAnotherHostOrUserIsNotLookedFor(t *testing.T) {
	for _, uri := range []string{"qemu+ssh://host/system", "qemu:///session", "test:///default"} {
		if pid, err := daemonPID(t.Context(), uri); !errors.Is(err, errdefs.ErrNotImplemented) {
			t.Errorf("%s: %d, %v; want NotImplemented", uri, pid, err)
		}
	}
}

func TestDaemonThatIsNotThereIsUnavailable(t *testing.T) {
	uri := "qemu+unix:///system?socket=" + filepath.Join(t.TempDir(), "none")
	if pid, err := daemonPID(t.Context(), uri); !errors.Is(err, errdefs.ErrUnavailable) {
		t.Errorf("got %d, %v; want Unavailable", pid, err)
	}
}
