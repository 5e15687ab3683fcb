// SPDX-License-Identifier: Apache-2.0

package lifecycle_test

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/vmlet/vmlet/pkg/vm"
)

// TestAMergeOfAVMThatIsOffMayReadItsLayers: qemu-img runs as QEMU's user, and a layer may be root's since its VM has ended.
func TestAMergeOfAVMThatIsOffMayReadItsLayers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		sb, c := w.running("a")
		w.stopContainer(c)
		_, err := w.take(sb, "off", false)
		w.must(err)
		w.must(w.svc.RestoreSnapshot(t.Context(), sb, vm.RestoreRequest{Name: "off"}))
		layer := w.sandboxOf(sb).Status.Layers[0].Path
		before := len(w.disks.Calls())
		w.must(w.svc.DeleteSnapshot(t.Context(), sb, "off"))
		synctest.Wait()
		calls := w.disks.Calls()[before:]
		given := slices.Index(calls, "HandOver "+layer)
		read := slices.IndexFunc(calls, func(call string) bool { return strings.HasPrefix(call, "PullFile ") })
		if given < 0 || read < given {
			t.Errorf("the disks heard %v", calls)
		}
	})
}
