// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vmlet/vmlet/pkg/vm"
)

// changing is use cases whose sandboxes change while they are listed.
type changing struct {
	*fake
	all atomic.Pointer[[]*vm.Sandbox]
}

func (c *changing) Sandboxes() []*vm.Sandbox { return slices.Clone(*c.all.Load()) }

// version makes the n-th version of each of count sandboxes.
func (c *changing) version(n uint32, count int) {
	all := make([]*vm.Sandbox, count)
	for i := range all {
		said := fmt.Sprint(n)
		all[i] = &vm.Sandbox{ID: fmt.Sprint("s", i), Spec: vm.SandboxSpec{Name: said, Attempt: n, Labels: map[string]string{"version": said}}}
	}
	c.all.Store(&all)
}

func (*changing) list(t *testing.T, s *Server) *runtimeapi.ListPodSandboxResponse {
	t.Helper()
	resp, err := s.ListPodSandbox(t.Context(), &runtimeapi.ListPodSandboxRequest{})
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

func newChanging(t *testing.T, count int) (*changing, *Server) {
	t.Helper()
	c := &changing{fake: newFake()}
	c.version(0, count)
	return c, newServer(t, c)
}

func TestRecordsThatChangeAreListedAsTheyAre(t *testing.T) {
	const count, versions = 5, 200
	c, s := newChanging(t, count)
	var lists sync.WaitGroup
	for range 4 {
		lists.Go(func() {
			for last := uint32(0); last < versions; {
				pods := received(t, c.list(t, s)).GetItems()
				if len(pods) != count {
					t.Errorf("%d pods are listed, want %d", len(pods), count)
				}
				at := pods[0].GetMetadata().GetAttempt()
				if at < last {
					t.Errorf("version %d is listed after version %d", at, last)
				}
				for i, pod := range pods {
					if want := fmt.Sprint("s", count-1-i); pod.GetId() != want || pod.GetMetadata().GetName() != fmt.Sprint(at) || pod.GetLabels()["version"] != fmt.Sprint(at) {
						t.Errorf("pod %v in a list of version %d, want %s", pod, at, want)
					}
				}
				last = at
			}
		})
	}
	for n := range uint32(versions) {
		c.version(n+1, count)
		c.list(t, s)
	}
	lists.Wait()
}

func TestWhatBecomesOfAnAnswerDoesNotShowInTheNext(t *testing.T) {
	c, s := newChanging(t, 1)
	first := c.list(t, s)
	want := proto.Clone(first)
	clear(first.ProtoReflect().GetUnknown())
	if got := c.list(t, s); !proto.Equal(got, want) {
		t.Errorf("listed %v, want %v", got, want)
	}
}

func TestItemsOfRecordsThatAreNoMoreAreForgotten(t *testing.T) {
	const count = 10
	c, s := newChanging(t, count)
	for n := range uint32(5 * staleItems) {
		c.version(n, count)
		c.list(t, s)
	}
	if kept := len(s.sandboxItems.wire); kept > count+staleItems {
		t.Errorf("%d items are kept of %d records", kept, count)
	}
}
