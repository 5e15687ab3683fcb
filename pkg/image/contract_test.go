// SPDX-License-Identifier: Apache-2.0

package image

import (
	"hash/fnv"
	"io"
	"strings"
	"testing"

	"github.com/vmlet/vmlet/pkg/lifecycle"
	"github.com/vmlet/vmlet/pkg/lifecycle/lifecycletest"
)

var _ lifecycle.Images = (*Store)(nil)

func TestStoreKeepsTheContract(t *testing.T) {
	disk := func(t *testing.T, content string) []byte {
		t.Helper()
		sum := fnv.New64a()
		must(io.WriteString(sum, content))(t)
		return qcow2Disk(sum.Sum64(), mib, 0)
	}
	lifecycletest.RunImages(t, func(t *testing.T) lifecycletest.ImagesHost {
		t.Helper()
		reg, s := newRegistry(t), openStore(t)
		return lifecycletest.ImagesHost{
			Images: s, Registry: reg.host, Disk: disk,
			Publish: func(t *testing.T, ref, content string) {
				t.Helper()
				reg.push(strings.TrimPrefix(ref, reg.host+"/"), artifact(t, "application/vnd.vmlet.disk.qcow2.v1+zstd", zstdOf(t, disk(t, content))))
			},
		}
	})
}
