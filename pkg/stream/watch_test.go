// SPDX-License-Identifier: Apache-2.0

package stream

import (
	"encoding/binary"
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func event(wd int32, mask uint32) []byte {
	b := make([]byte, unix.SizeofInotifyEvent)
	binary.NativeEndian.PutUint32(b[0:], uint32(wd))
	binary.NativeEndian.PutUint32(b[4:], mask)
	return b
}

func TestEventsNameEachFileOnce(t *testing.T) {
	for name, tc := range map[string]struct {
		events [][]byte
		want   []string
	}{
		"several writes":      {[][]byte{event(1, unix.IN_MODIFY), event(2, unix.IN_MODIFY), event(1, unix.IN_MODIFY)}, []string{"a", "b"}},
		"a forgotten file":    {[][]byte{event(9, unix.IN_MODIFY), event(2, unix.IN_MODIFY)}, []string{"b"}},
		"lost events are all": {[][]byte{event(2, unix.IN_MODIFY), event(-1, unix.IN_Q_OVERFLOW)}, []string{"a", "b", "c"}},
	} {
		t.Run(name, func(t *testing.T) {
			count := map[string]int{}
			w := &watcher{ids: map[int32]string{1: "a", 2: "b", 3: "c"}, written: func(id string) { count[id]++ }}
			w.handOn(slices.Concat(tc.events...))
			if diff := cmp.Diff(tc.want, slices.Sorted(maps.Keys(count))); diff != "" {
				t.Error(diff)
			}
			for id, n := range count {
				if n != 1 {
					t.Errorf("%s was named %d times", id, n)
				}
			}
		})
	}
}
