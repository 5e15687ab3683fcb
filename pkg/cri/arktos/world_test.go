// SPDX-License-Identifier: Apache-2.0

package arktos_test

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vmlet/vmlet/pkg/cri"
	"github.com/vmlet/vmlet/pkg/cri/arktos"
	"github.com/vmlet/vmlet/pkg/lifecycle"
	"github.com/vmlet/vmlet/pkg/lifecycle/lifecycletest"
	"github.com/vmlet/vmlet/pkg/paths"
	"github.com/vmlet/vmlet/pkg/store"
	"github.com/vmlet/vmlet/pkg/streaming"
	"github.com/vmlet/vmlet/pkg/vm"
	arktosv1alpha2 "github.com/vmlet/vmlet/proto/arktos/v1alpha2"
)

const testImage = "registry.test/tiny"

// world is a node in memory: fakes around the real use cases and the real store, served by both APIs.
type world struct {
	t          *testing.T
	network    *lifecycletest.Network
	images     *lifecycletest.Images
	hypervisor *lifecycletest.Hypervisor
	disks      *lifecycletest.Disks
	guest      *lifecycletest.Guest
	svc        *lifecycle.Service

	conn *grpc.ClientConn

	arktosv1alpha2.RuntimeServiceClient
	arktosv1alpha2.ImageServiceClient
	v1 runtimeapi.RuntimeServiceClient
}

type clock struct{}

func (clock) Now() time.Time { return time.Now() }

// urls promises streams.
type urls struct{}

func (urls) Exec(string, []string, streaming.Wanted) (string, error) { return "exec", nil }

func (urls) Attach(_ string, want streaming.Wanted) (string, error) {
	if !want.Stdout {
		return "", errdefs.ErrInternal
	}
	return "attach", nil
}

func (urls) PortForward(string, []int32) (string, error) { return "forward", nil }

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{
		t: t, network: lifecycletest.NewNetwork(), images: lifecycletest.NewImages(),
		hypervisor: lifecycletest.NewHypervisor(), disks: lifecycletest.NewDisks(), guest: lifecycletest.NewGuest(),
	}
	w.images.Add(testImage)
	node := paths.Node{Root: t.TempDir(), State: t.TempDir()}
	st, err := store.Open(t.Context(), node, store.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	w.hypervisor.UseDisks(w.disks)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	w.svc = lifecycle.New(ctx, lifecycle.Config{
		Paths: node, StatsInterval: time.Hour,
		Defaults: lifecycle.Defaults{
			VCPUs: 1, MaxVCPUs: 8, Memory: 256 * vm.MiB, MinimumMemory: 64 * vm.MiB, MachineType: "q35", DiskBus: vm.BusVirtio,
			ErrorPolicy: "enospace", AgentChannel: true, AgentTimeout: time.Minute,
		},
	}, lifecycle.Deps{
		Hypervisor: w.hypervisor, Guest: w.guest, Shares: lifecycletest.NewShares(), Network: w.network, Images: w.images, Disks: w.disks,
		Cgroups: lifecycletest.NewCgroups(), Consoles: lifecycletest.NewConsoles(), Screens: w.hypervisor, Clock: clock{},
		Store: lifecycle.Store{Owner: st.Owner(), Sandboxes: st.Sandboxes(), Containers: st.Containers(), Disks: st.Disks()},
	})
	if err := w.svc.Recover(ctx, vm.AccelTCG, nil); err != nil {
		t.Fatal(err)
	}
	ran := make(chan struct{})
	go func() { defer close(ran); w.svc.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		<-ran
		w.svc.Close()
		w.guest.Hangup()
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	w.serve()
	return w
}

// serve serves both APIs in memory, errors mapped as the daemon maps them.
func (w *world) serve() {
	w.t.Helper()
	v1, err := cri.New(cri.Config{CgroupDriver: "cgroupfs", Streams: urls{}, Handlers: []string{"vm"}}, w.svc)
	if err != nil {
		w.t.Fatal(err)
	}
	listener := bufconn.Listen(64 << 10)
	server := grpc.NewServer(grpc.UnaryInterceptor(
		func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
			resp, err := handler(ctx, req)
			return resp, errgrpc.ToGRPC(err)
		}))
	v1.Register(server)
	arktos.New(v1, w.svc).Register(server)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	conn, err := grpc.NewClient("passthrough:///memory", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	if err != nil {
		w.t.Fatal(err)
	}
	w.conn = conn
	w.RuntimeServiceClient, w.ImageServiceClient = arktosv1alpha2.NewRuntimeServiceClient(conn), arktosv1alpha2.NewImageServiceClient(conn)
	w.v1 = runtimeapi.NewRuntimeServiceClient(conn)
	w.t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			w.t.Error(err)
		}
		server.Stop()
		if err := <-served; err != nil {
			w.t.Error(err)
		}
	})
}

const nics = `[{"name":"eth0","portId":"p0"},{"name":"eth1","subnetName":"s1","portId":"p1","tag":"t1"}]`

// podConfig is a VM pod called db as the node agent makes it.
func podConfig(tenant string) *arktosv1alpha2.PodSandboxConfig {
	const name = "db"
	uid := "uid-" + tenant + "-" + name
	return &arktosv1alpha2.PodSandboxConfig{
		Metadata: &arktosv1alpha2.PodSandboxMetadata{Name: name, Uid: uid, Namespace: "default", Tenant: tenant},
		Hostname: name, LogDirectory: "/var/log/pods/" + tenant + "_default_" + name + "_" + uid,
		Labels: map[string]string{
			"app": "db", "io.kubernetes.pod.name": name, "io.kubernetes.pod.namespace": "default",
			"io.kubernetes.pod.tenant": tenant, "io.kubernetes.pod.uid": uid,
		},
		Annotations: map[string][]byte{
			"kubernetes.io/target-runtime": []byte("virtlet.cloud"), "VirtletRootVolumeSize": []byte("4Gi"),
			"VirtletVCPUCount": []byte("2"), "VPC": []byte("vpc-1"), "NICs": []byte(nics),
			"VirtletCloudInitUserData":       {0x1f, 0x8b, 0xff, 0xfe},
			"arktos.futurewei.com/cni-args":  []byte("zone=a;rack=7"),
			"kubernetes.io/config.source":    []byte("api"),
			"arktos.futurewei.com/nic-empty": {},
		},
		Linux: &arktosv1alpha2.LinuxPodSandboxConfig{SecurityContext: &arktosv1alpha2.LinuxSandboxSecurityContext{
			NamespaceOptions: &arktosv1alpha2.NamespaceOption{}, SeccompProfilePath: "runtime/default",
		}},
	}
}

func containerConfig(attempt uint32) *arktosv1alpha2.ContainerConfig {
	return &arktosv1alpha2.ContainerConfig{
		Metadata: &arktosv1alpha2.ContainerMetadata{Name: "vm", Attempt: attempt},
		Image:    &arktosv1alpha2.ImageSpec{Image: testImage},
		Labels:   map[string]string{"io.kubernetes.container.name": "vm"},
		Annotations: map[string]string{
			"io.kubernetes.container.hash": "a1b2", "io.kubernetes.container.restartCount": "0", "io.kubernetes.pod.terminationGracePeriod": "30",
		},
		Envs:    []*arktosv1alpha2.KeyValue{{Key: "KUBERNETES_PORT", Value: []byte("tcp://10.0.0.1:443")}},
		LogPath: "vm/0.log", Stdin: true, Tty: true,
		Linux: &arktosv1alpha2.LinuxContainerConfig{
			Resources: &arktosv1alpha2.LinuxContainerResources{
				CpuPeriod: 100000, CpuQuota: 200000, CpuShares: 1024, MemoryLimitInBytes: 512 << 20, OomScoreAdj: 900,
			},
			SecurityContext: &arktosv1alpha2.LinuxContainerSecurityContext{
				NamespaceOptions: &arktosv1alpha2.NamespaceOption{Pid: arktosv1alpha2.NamespaceMode_CONTAINER},
				RunAsUser:        &arktosv1alpha2.Int64Value{},
				MaskedPaths:      []string{"/proc/acpi", "/proc/kcore", "/proc/keys", "/sys/firmware"},
				ReadonlyPaths:    []string{"/proc/asound", "/proc/bus", "/proc/sys"},
			},
		},
	}
}

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func (w *world) sandbox(config *arktosv1alpha2.PodSandboxConfig) string {
	w.t.Helper()
	return must[*arktosv1alpha2.RunPodSandboxResponse](w.t)(w.RunPodSandbox(w.t.Context(), &arktosv1alpha2.RunPodSandboxRequest{Config: config})).GetPodSandboxId()
}

func (w *world) create(sandbox string, attempt uint32, config *arktosv1alpha2.PodSandboxConfig) string {
	w.t.Helper()
	return must[*arktosv1alpha2.CreateContainerResponse](w.t)(w.CreateContainer(w.t.Context(), &arktosv1alpha2.CreateContainerRequest{
		PodSandboxId: sandbox, Config: containerConfig(attempt), SandboxConfig: config,
	})).GetContainerId()
}

// running runs a pod's VM.
func (w *world) running(config *arktosv1alpha2.PodSandboxConfig) (sandbox, container string) {
	w.t.Helper()
	sandbox = w.sandbox(config)
	container = w.create(sandbox, 0, config)
	w.start(container)
	return sandbox, container
}

func (w *world) start(container string) {
	w.t.Helper()
	must[*arktosv1alpha2.StartContainerResponse](w.t)(w.StartContainer(w.t.Context(), &arktosv1alpha2.StartContainerRequest{ContainerId: container}))
}

func (w *world) podStatus(sandbox string) *arktosv1alpha2.PodSandboxStatus {
	w.t.Helper()
	return must[*arktosv1alpha2.PodSandboxStatusResponse](w.t)(w.PodSandboxStatus(w.t.Context(), &arktosv1alpha2.PodSandboxStatusRequest{PodSandboxId: sandbox})).GetStatus()
}

func (w *world) status(container string) *arktosv1alpha2.ContainerStatus {
	w.t.Helper()
	return must[*arktosv1alpha2.ContainerStatusResponse](w.t)(w.ContainerStatus(w.t.Context(), &arktosv1alpha2.ContainerStatusRequest{ContainerId: container})).GetStatus()
}

// runs proves that a container is RUNNING.
func (w *world) runs(container string) {
	w.t.Helper()
	if state := w.status(container).GetState(); state != arktosv1alpha2.ContainerState_CONTAINER_RUNNING {
		w.t.Errorf("the container is %s", state)
	}
}

// is proves that an error has a code.
func (w *world) is(want codes.Code, err error) {
	w.t.Helper()
	if status.Code(err) != want {
		w.t.Errorf("%v, want %s", err, want)
	}
}
