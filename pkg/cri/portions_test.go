// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vmlet/vmlet/pkg/vm"
)

// sink is the server's side of a stream: it keeps what is sent, as a client gets it.
type sink[T any, M interface {
	*T
	proto.Message
}] struct {
	grpc.ServerStream
	ctx    context.Context //nolint:containedctx // a stream is its context's
	tb     testing.TB
	sent   []M
	header bool
	err    error // of Send
}

func newSink[T any, M interface {
	*T
	proto.Message
}](tb testing.TB) *sink[T, M] {
	return &sink[T, M]{ctx: tb.Context(), tb: tb}
}

func (s *sink[T, M]) Context() context.Context { return s.ctx }

func (s *sink[T, M]) SendHeader(metadata.MD) error {
	s.header = true
	return nil
}

func (s *sink[T, M]) Send(m M) error {
	if s.err == nil {
		s.sent = append(s.sent, received(s.tb, m))
	}
	return s.err
}

func TestPortionsHoldEachItemOnceAndAtLeastOne(t *testing.T) {
	const half = portionSize / 2
	for name, tt := range map[string]struct {
		sizes []int
		want  string
	}{
		"nothing":           {nil, "[]"},
		"one":               {[]int{1}, "[[1]]"},
		"all in one":        {[]int{half, half}, "[[524288 524288]]"},
		"a byte too many":   {[]int{half, half, 1}, "[[524288 524288] [1]]"},
		"one that is large": {[]int{1, 2 * portionSize, 1, 2}, "[[1] [2097152] [1 2]]"},
	} {
		var sent [][]int
		err := inPortions(tt.sizes, func(n int) int { return n }, func(portion []int) error {
			sent = append(sent, slices.Clone(portion))
			return nil
		})
		if err != nil || fmt.Sprint(sent) != tt.want {
			t.Errorf("%s: %v, %v; want %s", name, sent, err, tt.want)
		}
	}
}

// manyPods is more than one portion of everything.
func manyPods() *fake {
	f := newFake()
	bulk := map[string]string{"bulk": strings.Repeat("x", portionSize/4)}
	for i := range 10 {
		sandbox, container := fmt.Sprintf("s%d", i), fmt.Sprintf("c%d", i)
		f.sandboxes = append(f.sandboxes, vm.Sandbox{ID: sandbox, Spec: vm.SandboxSpec{Annotations: bulk, Name: bulk["bulk"]}, Status: vm.SandboxStatus{State: vm.SandboxReady}})
		f.containers = append(f.containers, vm.Container{ID: container, SandboxID: sandbox, Spec: vm.ContainerSpec{Annotations: bulk}, Status: vm.ContainerStatus{State: vm.ContainerRunning, StartedAt: f.now}})
		f.stats = append(f.stats, vm.Stats{SandboxID: sandbox, ContainerID: container, At: f.now})
		f.images = append(f.images, vm.Image{ID: fmt.Sprintf("sha256:%064d", i), Tags: []string{"r.example/" + bulk["bulk"]}})
	}
	return f
}

// joined is all that portions hold, and fails where they are not portions.
func joined[M, T any](t *testing.T, sent []M, items func(M) []T) []T {
	t.Helper()
	if len(sent) < 2 {
		t.Errorf("%d responses", len(sent))
	}
	var all []T
	for i, m := range sent {
		if len(items(m)) == 0 {
			t.Errorf("response %d is empty", i)
		}
		all = append(all, items(m)...)
	}
	return all
}

func wantSame[T any](t *testing.T, rpc string, streamed, listed []T) {
	t.Helper()
	same := slices.EqualFunc(streamed, listed, func(a, b T) bool {
		x, ok := any(a).(proto.Message)
		y, also := any(b).(proto.Message)
		return ok && also && proto.Equal(x, y)
	})
	if len(listed) != 10 || !same {
		t.Errorf("%s: %d items are streamed, %d are listed, the same: %v", rpc, len(streamed), len(listed), same)
	}
}

func TestStreamedListsAreTheLists(t *testing.T) {
	s, ctx := newServer(t, manyPods()), t.Context()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}

	pods := newSink[runtimeapi.StreamPodSandboxesResponse](t)
	check(s.StreamPodSandboxes(&runtimeapi.StreamPodSandboxesRequest{}, pods))
	podList, err := s.ListPodSandbox(ctx, &runtimeapi.ListPodSandboxRequest{})
	check(err)
	wantSame(t, "pods", joined(t, pods.sent, (*runtimeapi.StreamPodSandboxesResponse).GetPodSandboxes), received(t, podList).GetItems())

	containers := newSink[runtimeapi.StreamContainersResponse](t)
	check(s.StreamContainers(&runtimeapi.StreamContainersRequest{}, containers))
	containerList, err := s.ListContainers(ctx, &runtimeapi.ListContainersRequest{})
	check(err)
	wantSame(t, "containers", joined(t, containers.sent, (*runtimeapi.StreamContainersResponse).GetContainers), received(t, containerList).GetContainers())

	stats := newSink[runtimeapi.StreamContainerStatsResponse](t)
	check(s.StreamContainerStats(&runtimeapi.StreamContainerStatsRequest{}, stats))
	statsList, err := s.ListContainerStats(ctx, &runtimeapi.ListContainerStatsRequest{})
	check(err)
	wantSame(t, "stats", joined(t, stats.sent, (*runtimeapi.StreamContainerStatsResponse).GetContainerStats), statsList.GetStats())

	podStats := newSink[runtimeapi.StreamPodSandboxStatsResponse](t)
	check(s.StreamPodSandboxStats(&runtimeapi.StreamPodSandboxStatsRequest{}, podStats))
	podStatsList, err := s.ListPodSandboxStats(ctx, &runtimeapi.ListPodSandboxStatsRequest{})
	check(err)
	wantSame(t, "pod stats", joined(t, podStats.sent, (*runtimeapi.StreamPodSandboxStatsResponse).GetPodSandboxStats), podStatsList.GetStats())

	podMetrics := newSink[runtimeapi.StreamPodSandboxMetricsResponse](t)
	check(s.StreamPodSandboxMetrics(&runtimeapi.StreamPodSandboxMetricsRequest{}, podMetrics))
	metricsList, err := s.ListPodSandboxMetrics(ctx, &runtimeapi.ListPodSandboxMetricsRequest{})
	check(err)
	wantSame(t, "metrics", joined(t, podMetrics.sent, (*runtimeapi.StreamPodSandboxMetricsResponse).GetPodSandboxMetrics), metricsList.GetPodMetrics())

	images := newSink[runtimeapi.StreamImagesResponse](t)
	check(s.StreamImages(&runtimeapi.StreamImagesRequest{}, images))
	imageList, err := s.ListImages(ctx, &runtimeapi.ListImagesRequest{})
	check(err)
	wantSame(t, "images", joined(t, images.sent, (*runtimeapi.StreamImagesResponse).GetImages), imageList.GetImages())
}

func TestStreamedListsAreFiltered(t *testing.T) {
	s := newServer(t, pods())
	out := newSink[runtimeapi.StreamPodSandboxesResponse](t)
	err := s.StreamPodSandboxes(&runtimeapi.StreamPodSandboxesRequest{Filter: &runtimeapi.PodSandboxFilter{Id: "aa20"}}, out)
	if err != nil || len(out.sent) != 1 || out.sent[0].GetPodSandboxes()[0].GetId() != "aa20" {
		t.Errorf("%v, %v", out.sent, err)
	}
	none := newSink[runtimeapi.StreamContainersResponse](t)
	err = s.StreamContainers(&runtimeapi.StreamContainersRequest{Filter: &runtimeapi.ContainerFilter{Id: "absent"}}, none)
	if err != nil || len(none.sent) != 0 {
		t.Errorf("%v, %v", none.sent, err)
	}
}

func TestAStreamEndsWithItsClient(t *testing.T) {
	out := newSink[runtimeapi.StreamPodSandboxesResponse](t)
	out.err = errors.New("gone")
	if err := newServer(t, manyPods()).StreamPodSandboxes(&runtimeapi.StreamPodSandboxesRequest{}, out); !errors.Is(err, out.err) {
		t.Errorf("%v", err)
	}
}
