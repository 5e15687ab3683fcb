// SPDX-License-Identifier: Apache-2.0

package arktos_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vmlet/vmlet/pkg/vm"
	arktosv1alpha2 "github.com/vmlet/vmlet/proto/arktos/v1alpha2"
)

func TestVersionIsWhatTheNodeAgentAccepts(t *testing.T) {
	w := newWorld(t)
	v := must[*arktosv1alpha2.VersionResponse](t)(w.Version(t.Context(), &arktosv1alpha2.VersionRequest{Version: "0.1.0"}))
	if v.GetVersion() != "0.1.0" || v.GetRuntimeApiVersion() != "0.1.0" || v.GetRuntimeName() != "vmlet" || !strings.HasPrefix(v.GetRuntimeVersion(), "0.") {
		t.Errorf("%v", v)
	}
}

func TestStatusHasTwoTrueConditions(t *testing.T) {
	w := newWorld(t)
	resp := must[*arktosv1alpha2.StatusResponse](t)(w.Status(t.Context(), &arktosv1alpha2.StatusRequest{}))
	names := map[string]bool{}
	for _, c := range resp.GetStatus().GetConditions() {
		names[c.GetType()] = c.GetStatus()
	}
	if !maps.Equal(names, map[string]bool{"RuntimeReady": true, "NetworkReady": true}) || len(resp.ProtoReflect().GetUnknown()) > 0 {
		t.Errorf("%v", resp)
	}
	must[*arktosv1alpha2.UpdateRuntimeConfigResponse](t)(w.UpdateRuntimeConfig(t.Context(), &arktosv1alpha2.UpdateRuntimeConfigRequest{
		RuntimeConfig: &arktosv1alpha2.RuntimeConfig{NetworkConfig: &arktosv1alpha2.NetworkConfig{PodCidr: "10.0.0.0/24"}},
	}))
}

// Tenant, labels and annotations come back as they were, and what is no text does so where there is a type for it.
func TestAPodComesBackVerbatim(t *testing.T) {
	w := newWorld(t)
	config := podConfig("acme")
	sandbox := w.sandbox(config)
	got := w.podStatus(sandbox)
	if !proto.Equal(got.GetMetadata(), config.GetMetadata()) || !maps.Equal(got.GetLabels(), config.GetLabels()) {
		t.Errorf("%v, %v", got.GetMetadata(), got.GetLabels())
	}
	if diff := cmp.Diff(config.GetAnnotations(), got.GetAnnotations()); diff != "" {
		t.Error(diff)
	}
	if got.GetCreatedAt() == 0 || got.GetNetwork().GetIp() == "" || got.GetLinux().GetNamespaces().GetOptions().GetNetwork() != arktosv1alpha2.NamespaceMode_POD {
		t.Errorf("%v", got)
	}
	list := must[*arktosv1alpha2.ListPodSandboxResponse](t)(w.ListPodSandbox(t.Context(), &arktosv1alpha2.ListPodSandboxRequest{Filter: &arktosv1alpha2.PodSandboxFilter{
		LabelSelector: map[string]string{"io.kubernetes.pod.uid": config.GetMetadata().GetUid()},
		State:         &arktosv1alpha2.PodSandboxStateValue{State: arktosv1alpha2.PodSandboxState_SANDBOX_READY},
	}}))
	if len(list.GetItems()) != 1 || !proto.Equal(list.GetItems()[0].GetMetadata(), config.GetMetadata()) || len(list.GetItems()[0].ProtoReflect().GetUnknown()) > 0 {
		t.Fatalf("%v", list)
	}
	if diff := cmp.Diff(config.GetAnnotations(), list.GetItems()[0].GetAnnotations()); diff != "" {
		t.Error(diff)
	}
	for _, filter := range []*arktosv1alpha2.PodSandboxFilter{
		{State: &arktosv1alpha2.PodSandboxStateValue{State: arktosv1alpha2.PodSandboxState_SANDBOX_NOTREADY}},
		{LabelSelector: map[string]string{"io.kubernetes.pod.uid": "another"}},
	} {
		none := must[*arktosv1alpha2.ListPodSandboxResponse](t)(w.ListPodSandbox(t.Context(), &arktosv1alpha2.ListPodSandboxRequest{Filter: filter}))
		if len(none.GetItems()) > 0 {
			t.Errorf("%v finds %v", filter, none)
		}
	}
	old, err := w.v1.PodSandboxStatus(t.Context(), &runtimeapi.PodSandboxStatusRequest{PodSandboxId: sandbox})
	if err != nil || len(old.GetStatus().GetAnnotations()) != len(config.GetAnnotations())-1 {
		t.Errorf("runtime.v1 says %v, %v", old, err)
	}
}

func TestAContainerComesBackVerbatim(t *testing.T) {
	w := newWorld(t)
	config := podConfig("acme")
	sandbox, container := w.running(config)
	want := containerConfig(0)
	got := w.status(container)
	if !maps.Equal(got.GetAnnotations(), want.GetAnnotations()) || !maps.Equal(got.GetLabels(), want.GetLabels()) || !proto.Equal(got.GetMetadata(), want.GetMetadata()) {
		t.Errorf("%v", got)
	}
	if got.GetImage().GetImage() == "" || got.GetImageRef() == "" || got.GetCreatedAt() == 0 || got.GetStartedAt() == 0 ||
		got.GetLogPath() != config.GetLogDirectory()+"/vm/0.log" {
		t.Errorf("%v", got)
	}
	for _, filter := range []*arktosv1alpha2.ContainerFilter{
		{State: &arktosv1alpha2.ContainerStateValue{State: arktosv1alpha2.ContainerState_CONTAINER_EXITED}},
		{LabelSelector: map[string]string{"io.kubernetes.container.name": "another"}},
	} {
		none := must[*arktosv1alpha2.ListContainersResponse](t)(w.ListContainers(t.Context(), &arktosv1alpha2.ListContainersRequest{Filter: filter}))
		if len(none.GetContainers()) > 0 {
			t.Errorf("%v finds %v", filter, none)
		}
	}
	image := must[*arktosv1alpha2.ImageStatusResponse](t)(w.ImageStatus(t.Context(), &arktosv1alpha2.ImageStatusRequest{Image: want.GetImage()})).GetImage()
	for _, filter := range []*arktosv1alpha2.ContainerFilter{nil, {PodSandboxId: sandbox}, {State: &arktosv1alpha2.ContainerStateValue{State: arktosv1alpha2.ContainerState_CONTAINER_RUNNING}}} {
		list := must[*arktosv1alpha2.ListContainersResponse](t)(w.ListContainers(t.Context(), &arktosv1alpha2.ListContainersRequest{Filter: filter})).GetContainers()
		if len(list) != 1 || list[0].GetImage() == nil || !proto.Equal(list[0].GetMetadata(), want.GetMetadata()) ||
			!maps.Equal(list[0].GetAnnotations(), want.GetAnnotations()) || list[0].GetImageRef() != image.GetId() {
			t.Errorf("%v: %v, the image is %s", filter, list, image.GetId())
		}
	}
}

// Field 16 is the limits themselves here, and holds them in a message in runtime.v1. What is 0 in a change stays.
func TestLimitsAreToldWithoutAWrapper(t *testing.T) {
	w := newWorld(t)
	_, container := w.running(podConfig("acme"))
	want := containerConfig(0).GetLinux().GetResources()
	if got := w.status(container).GetResources(); !proto.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	must[*arktosv1alpha2.UpdateContainerResourcesResponse](t)(w.UpdateContainerResources(t.Context(), &arktosv1alpha2.UpdateContainerResourcesRequest{
		ContainerId: container, Linux: &arktosv1alpha2.LinuxContainerResources{CpusetCpus: "0"},
	}))
	want.CpusetCpus = "0"
	if got := w.status(container).GetResources(); !proto.Equal(got, want) {
		t.Errorf("after the cpuset: %v, want %v", got, want)
	}
	want.CpuQuota = 300000
	must[*arktosv1alpha2.UpdateContainerResourcesResponse](t)(w.UpdateContainerResources(t.Context(), &arktosv1alpha2.UpdateContainerResourcesRequest{
		ContainerId: container, Linux: &arktosv1alpha2.LinuxContainerResources{CpuPeriod: 100000, CpuQuota: 300000},
	}))
	if got := w.status(container).GetResources(); !proto.Equal(got, want) {
		t.Errorf("after the resize: %v, want %v", got, want)
	}
	if c, err := w.svc.Container(container); err != nil || c.Status.Size.VCPUs != 3 {
		t.Errorf("%d CPUs, %v: VirtletVCPUCount must not keep a limit from growing", c.Status.Size.VCPUs, err)
	}
}

func TestCNIHearsOfTenantAndVPC(t *testing.T) {
	w := newWorld(t)
	sb, err := w.svc.Sandbox(w.sandbox(podConfig("acme")))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"K8S_POD_TENANT": "acme", "VPC": "vpc-1", "NICs": nics, "zone": "a", "rack": "7"}
	if diff := cmp.Diff(want, sb.Status.Network.Request.Args); diff != "" {
		t.Error(diff)
	}
}

func TestPodsThatAreRefused(t *testing.T) {
	w := newWorld(t)
	for name, spoil := range map[string]func(*arktosv1alpha2.PodSandboxConfig){
		"NICs that are no JSON": func(c *arktosv1alpha2.PodSandboxConfig) { c.Annotations["NICs"] = []byte("eth0") },
		"a VPC that is no text": func(c *arktosv1alpha2.PodSandboxConfig) { c.Annotations["VPC"] = []byte{0xff} },
		"two of a name":         func(c *arktosv1alpha2.PodSandboxConfig) { c.Annotations["NICs"] = []byte(`[{"name":"eth0"},{}]`) },
		"quotes in cni-args": func(c *arktosv1alpha2.PodSandboxConfig) {
			c.Annotations["arktos.futurewei.com/cni-args"] = []byte(`a="b"`)
		},
		"cni-args that say who it is": func(c *arktosv1alpha2.PodSandboxConfig) {
			c.Annotations["arktos.futurewei.com/cni-args"] = []byte(`K8S_POD_NAME=other`)
		},
		"an address that says more": func(c *arktosv1alpha2.PodSandboxConfig) {
			c.Annotations["NICs"] = []byte(`[{"name":"eth0","ipAddress":"10.0.0.1\u003bK8S_POD_NAMESPACE\u003dkube-system"}]`)
		},
		"an address that is none": func(c *arktosv1alpha2.PodSandboxConfig) {
			c.Annotations["NICs"] = []byte(`[{"name":"eth1","ipAddress":"192.0.2.300"}]`)
		},
		"a tenant that is a path": func(c *arktosv1alpha2.PodSandboxConfig) { c.Metadata.Tenant = "a/b" },
		"no metadata":             func(c *arktosv1alpha2.PodSandboxConfig) { c.Metadata = nil },
	} {
		config := podConfig("acme")
		spoil(config)
		_, err := w.RunPodSandbox(t.Context(), &arktosv1alpha2.RunPodSandboxRequest{Config: config})
		if status.Code(err) != codes.InvalidArgument {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err := w.RunPodSandbox(t.Context(), &arktosv1alpha2.RunPodSandboxRequest{Config: podConfig("acme"), RuntimeHandler: "kata"})
	w.is(codes.InvalidArgument, err)
	host := podConfig("acme")
	host.Linux.SecurityContext.NamespaceOptions.Network = arktosv1alpha2.NamespaceMode_NODE
	_, err = w.RunPodSandbox(t.Context(), &arktosv1alpha2.RunPodSandboxRequest{Config: host})
	w.is(codes.FailedPrecondition, err)
	if all := w.svc.Sandboxes(); len(all) > 0 {
		t.Errorf("there are %d sandboxes", len(all))
	}
}

// An attempt is of one tenant's pod: the other's is another one, whatever their UIDs are.
func TestTenantsDoNotShareSandboxes(t *testing.T) {
	w := newWorld(t)
	acme, evil := podConfig("acme"), podConfig("evil")
	evil.Metadata.Uid = acme.GetMetadata().GetUid()
	if a, b := w.sandbox(acme), w.sandbox(evil); a == b || w.podStatus(b).GetMetadata().GetTenant() != "evil" {
		t.Errorf("%s and %s", a, b)
	}
}

// The claims of two tenants' namespaces of one name are two.
func TestTenantsDoNotShareDisks(t *testing.T) {
	w := newWorld(t)
	for _, tenant := range []string{"acme", "evil"} {
		config := podConfig(tenant)
		config.Annotations["vmlet.io/root-disk"], config.Annotations["vmlet.io/root-disk-claim"] = []byte("persistent"), []byte("data")
		w.create(w.sandbox(config), 0, config)
	}
	disks, err := w.svc.Disks(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, d := range disks {
		names = append(names, d.Key.Name())
	}
	slices.Sort(names)
	if !slices.Equal(names, []string{"claim/acme/default/data/vm", "claim/evil/default/data/vm"}) {
		t.Errorf("%v", names)
	}
}

// The walk of the node agent: create, exit, restart in the same sandbox, delete, collect.
func TestOrderOfCallsOfTheNodeAgent(t *testing.T) {
	w := newWorld(t)
	ctx, config := t.Context(), podConfig("acme")
	sandbox := w.sandbox(config)
	if again := w.sandbox(config); again != sandbox {
		t.Errorf("a retry made %s beside %s", again, sandbox)
	}
	image := must[*arktosv1alpha2.ImageStatusResponse](t)(w.ImageStatus(ctx, &arktosv1alpha2.ImageStatusRequest{Image: &arktosv1alpha2.ImageSpec{Image: testImage + ":latest"}}))
	raw := must[*arktosv1alpha2.ImageStatusResponse](t)(w.ImageStatus(ctx, &arktosv1alpha2.ImageStatusRequest{Image: &arktosv1alpha2.ImageSpec{Image: testImage}}))
	if image.GetImage().GetId() == "" || image.GetImage().GetId() != raw.GetImage().GetId() || image.GetImage().GetSize() == 0 {
		t.Errorf("%v, %v", image, raw)
	}
	none := containerConfig(0)
	none.Image.Image = "" // its pull has failed, and nobody told
	_, err := w.CreateContainer(ctx, &arktosv1alpha2.CreateContainerRequest{PodSandboxId: sandbox, Config: none, SandboxConfig: config})
	w.is(codes.InvalidArgument, err)
	container := w.create(sandbox, 0, config)
	w.start(container)
	w.start(container)
	stop := func(c string) {
		t.Helper()
		must[*arktosv1alpha2.StopContainerResponse](t)(w.StopContainer(ctx, &arktosv1alpha2.StopContainerRequest{ContainerId: c, Timeout: 0}))
	}
	stop(container)
	next := w.create(sandbox, 1, config) // while the exited one is there
	w.start(next)
	w.runs(next)
	// The pod has left the node: its sandbox is stopped first.
	must[*arktosv1alpha2.StopPodSandboxResponse](t)(w.StopPodSandbox(ctx, &arktosv1alpha2.StopPodSandboxRequest{PodSandboxId: sandbox}))
	stop(next)
	if got := w.podStatus(sandbox); got.GetState() != arktosv1alpha2.PodSandboxState_SANDBOX_NOTREADY || got.GetNetwork() == nil {
		t.Errorf("%v", got)
	}
	if got := w.status(next); got.GetState() != arktosv1alpha2.ContainerState_CONTAINER_EXITED {
		t.Errorf("%v", got)
	}
	for _, c := range []string{container, next} {
		must[*arktosv1alpha2.RemoveContainerResponse](t)(w.RemoveContainer(ctx, &arktosv1alpha2.RemoveContainerRequest{ContainerId: c}))
	}
	for range 2 {
		must[*arktosv1alpha2.StopPodSandboxResponse](t)(w.StopPodSandbox(ctx, &arktosv1alpha2.StopPodSandboxRequest{PodSandboxId: sandbox}))
		must[*arktosv1alpha2.RemovePodSandboxResponse](t)(w.RemovePodSandbox(ctx, &arktosv1alpha2.RemovePodSandboxRequest{PodSandboxId: sandbox}))
	}
	if len(w.svc.Sandboxes())+len(w.svc.Containers()) > 0 {
		t.Error("something is left")
	}
}

func TestBothAPIsDriveOnePod(t *testing.T) {
	w := newWorld(t)
	config := podConfig("acme")
	sandbox := w.sandbox(config)
	created, err := w.v1.CreateContainer(t.Context(), &runtimeapi.CreateContainerRequest{PodSandboxId: sandbox, Config: &runtimeapi.ContainerConfig{
		Metadata: &runtimeapi.ContainerMetadata{Name: "vm"}, Image: &runtimeapi.ImageSpec{Image: testImage},
	}})
	if err != nil {
		t.Fatal(err)
	}
	w.start(created.GetContainerId())
	list, err := w.v1.ListContainers(t.Context(), &runtimeapi.ListContainersRequest{})
	if err != nil || len(list.GetContainers()) != 1 || list.GetContainers()[0].GetState() != runtimeapi.ContainerState_CONTAINER_RUNNING {
		t.Errorf("%v, %v", list, err)
	}
	if _, err := w.v1.StopPodSandbox(t.Context(), &runtimeapi.StopPodSandboxRequest{PodSandboxId: sandbox}); err != nil {
		t.Error(err)
	}
	if got := w.status(created.GetContainerId()); got.GetState() != arktosv1alpha2.ContainerState_CONTAINER_EXITED {
		t.Errorf("%v", got)
	}
}

// Whoever asks, and whoever else asks meanwhile: each call does what it does alone.
func TestBothAPIsDriveOnePodAtOnce(t *testing.T) {
	w := newWorld(t)
	sandbox, container := w.running(podConfig("acme"))
	const rounds = 20
	group, ctx := errgroup.WithContext(t.Context())
	for what, do := range map[string]func(int64) error{
		"NICs": func(int64) error {
			if _, err := w.AttachNetworkInterface(ctx, device("db", "eth2", "p2")); err != nil {
				return err
			}
			_, err := w.DetachNetworkInterface(ctx, device("db", "eth2", ""))
			return err
		},
		"limits of Arktos's": func(i int64) error {
			_, err := w.UpdateContainerResources(ctx, &arktosv1alpha2.UpdateContainerResourcesRequest{
				ContainerId: container, Linux: &arktosv1alpha2.LinuxContainerResources{CpuShares: 1000 + i},
			})
			return err
		},
		"limits of runtime.v1": func(i int64) error {
			_, err := w.v1.UpdateContainerResources(ctx, &runtimeapi.UpdateContainerResourcesRequest{
				ContainerId: container, Linux: &runtimeapi.LinuxContainerResources{OomScoreAdj: i},
			})
			return err
		},
		"states": func(int64) error {
			theirs, err := w.PodSandboxStatus(ctx, &arktosv1alpha2.PodSandboxStatusRequest{PodSandboxId: sandbox})
			if err != nil {
				return err
			}
			ours, err := w.v1.PodSandboxStatus(ctx, &runtimeapi.PodSandboxStatusRequest{PodSandboxId: sandbox})
			if err != nil {
				return err
			}
			if a, b := theirs.GetStatus().GetNetwork().GetIp(), ours.GetStatus().GetNetwork().GetIp(); a != b || len(ours.GetStatus().GetNetwork().GetAdditionalIps()) > 0 {
				return fmt.Errorf("addresses %s and %s, %v", a, b, ours)
			}
			return nil
		},
	} {
		group.Go(func() error {
			for i := range int64(rounds) {
				if err := do(i); err != nil {
					return fmt.Errorf("%s, round %d: %w", what, i+1, err)
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	w.runs(container)
	w.hasNICs(sandbox, ready("eth0", "p0"), ready("eth1", "p1"))
	if got := w.status(container).GetResources(); got.GetCpuShares() != 1000+rounds-1 || got.GetOomScoreAdj() != rounds-1 {
		t.Errorf("%v", got)
	}
}

func TestStreamsAndStatistics(t *testing.T) {
	w := newWorld(t)
	sandbox, container := w.running(podConfig("acme"))
	ctx := t.Context()
	if got, err := w.Attach(ctx, &arktosv1alpha2.AttachRequest{ContainerId: container, Tty: true}); err != nil || got.GetUrl() != "attach" {
		t.Errorf("%v, %v", got, err)
	}
	if got, err := w.Exec(ctx, &arktosv1alpha2.ExecRequest{ContainerId: container, Cmd: []string{"sh"}, Tty: true, Stdout: true}); err != nil || got.GetUrl() != "exec" {
		t.Errorf("%v, %v", got, err)
	}
	if got, err := w.PortForward(ctx, &arktosv1alpha2.PortForwardRequest{PodSandboxId: sandbox, Port: []int32{80}}); err != nil || got.GetUrl() != "forward" {
		t.Errorf("%v, %v", got, err)
	}
	if got, err := w.ExecSync(ctx, &arktosv1alpha2.ExecSyncRequest{ContainerId: container, Cmd: []string{"true"}, Timeout: 5}); err != nil {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := w.ReopenContainerLog(ctx, &arktosv1alpha2.ReopenContainerLogRequest{ContainerId: container}); err != nil {
		t.Error(err)
	}
	stats := must[*arktosv1alpha2.ListContainerStatsResponse](t)(w.ListContainerStats(ctx, &arktosv1alpha2.ListContainerStatsRequest{})).GetStats()
	one := must[*arktosv1alpha2.ContainerStatsResponse](t)(w.ContainerStats(ctx, &arktosv1alpha2.ContainerStatsRequest{ContainerId: container})).GetStats()
	if len(stats) != 1 || stats[0].GetAttributes().GetMetadata().GetName() != "vm" || one.GetAttributes().GetId() != container ||
		len(stats[0].GetCpu().ProtoReflect().GetUnknown()) > 0 {
		t.Errorf("%v, %v", stats, one)
	}
	usage := must[*arktosv1alpha2.ImageFsInfoResponse](t)(w.ImageFsInfo(ctx, &arktosv1alpha2.ImageFsInfoRequest{})).GetImageFilesystems()
	if len(usage) != 1 || usage[0].GetUsedBytes() == nil || usage[0].GetInodesUsed() == nil {
		t.Errorf("%v", usage)
	}
}

// The node agent's own client stops at the first runtime that says that it has removed an image.
func TestAnImageThatIsNotHereIsNotRemoved(t *testing.T) {
	w := newWorld(t)
	w.images.Publish("registry.test/other:latest", "x")
	pulled := must[*arktosv1alpha2.PullImageResponse](t)(w.PullImage(t.Context(), &arktosv1alpha2.PullImageRequest{
		Image: &arktosv1alpha2.ImageSpec{Image: "registry.test/other:latest"}, SandboxConfig: podConfig("acme"),
	}))
	remove := func(ref string) error {
		_, err := w.RemoveImage(t.Context(), &arktosv1alpha2.RemoveImageRequest{Image: &arktosv1alpha2.ImageSpec{Image: ref}})
		return err
	}
	list := must[*arktosv1alpha2.ListImagesResponse](t)(w.ListImages(t.Context(), &arktosv1alpha2.ListImagesRequest{})).GetImages()
	if pulled.GetImageRef() == "" || len(list) != 2 || len(list[0].ProtoReflect().GetUnknown()) > 0 {
		t.Errorf("%v, %v", pulled, list)
	}
	w.is(codes.OK, remove(pulled.GetImageRef()))
	w.is(codes.NotFound, remove(pulled.GetImageRef()))
	w.is(codes.InvalidArgument, remove(""))
}

// A pod of runtime.v1 has neither tenant nor NICs of Arktos's.
func TestAPodOfTheOtherAPI(t *testing.T) {
	w := newWorld(t)
	id, err := w.svc.RunSandbox(t.Context(), vm.SandboxSpec{Name: "web", Namespace: "default", UID: "u", Annotations: map[string]string{"NICs": "many"}})
	if err != nil {
		t.Fatal(err)
	}
	got := w.podStatus(id)
	if got.GetMetadata().GetTenant() != "" || got.GetNetwork().GetIp() == "" || len(got.GetNetwork().GetNics()) > 0 {
		t.Errorf("%v", got)
	}
}
