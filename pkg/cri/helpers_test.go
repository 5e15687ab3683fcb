// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"errors"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// secret is put into every field that may hold one: it must not show up in an error.
const secret = "s3cr3t-do-not-tell"

func newServer(tb testing.TB, svc UseCases) *Server {
	tb.Helper()
	s, err := New(Config{Handlers: []string{"vm"}, CgroupDriver: "cgroupfs"}, svc)
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

// kubeletSandbox is a sandbox as a kubelet asks for it.
func kubeletSandbox() *runtimeapi.PodSandboxConfig {
	return &runtimeapi.PodSandboxConfig{
		Metadata:     &runtimeapi.PodSandboxMetadata{Name: "web-0", Namespace: "shop", Uid: "7d9f2f5e-1111", Attempt: 3},
		Hostname:     "web-0",
		LogDirectory: "/var/log/pods/shop_web-0_7d9f2f5e-1111",
		DnsConfig:    &runtimeapi.DNSConfig{Servers: []string{"10.96.0.10", "fd00::a"}, Searches: []string{"shop.svc.cluster.local"}, Options: []string{"ndots:5"}},
		Labels:       map[string]string{"io.kubernetes.pod.name": "web-0"},
		Annotations:  map[string]string{"kubernetes.io/config.source": "api", "user-data": secret},
		Linux: &runtimeapi.LinuxPodSandboxConfig{
			CgroupParent: "/kubepods/burstable/pod7d9f2f5e-1111",
			SecurityContext: &runtimeapi.LinuxSandboxSecurityContext{
				NamespaceOptions: &runtimeapi.NamespaceOption{
					Pid:           runtimeapi.NamespaceMode_CONTAINER,
					UsernsOptions: &runtimeapi.UserNamespace{Mode: runtimeapi.NamespaceMode_NODE},
				},
				Seccomp: &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_RuntimeDefault},
			},
			Resources: &runtimeapi.LinuxContainerResources{CpuQuota: 50000, CpuPeriod: 100000, MemoryLimitInBytes: 512 << 20},
			Overhead:  &runtimeapi.LinuxContainerResources{MemoryLimitInBytes: 120 << 20},
		},
	}
}

// kubeletContainer is a container as a kubelet asks for it.
func kubeletContainer() *runtimeapi.ContainerConfig {
	return &runtimeapi.ContainerConfig{
		Metadata: &runtimeapi.ContainerMetadata{Name: "vm", Attempt: 1},
		Image: &runtimeapi.ImageSpec{
			Image:              "sha256:" + strings.Repeat("1", 64),
			UserSpecifiedImage: "registry.example:5000/vms/web:1.2",
		},
		Command: []string{"/bin/serve"},
		Args:    []string{"--token", secret},
		Envs:    []*runtimeapi.KeyValue{{Key: "TOKEN", Value: []byte(secret)}, {Key: "EMPTY"}},
		Mounts: []*runtimeapi.Mount{
			{ContainerPath: "/etc/hosts", HostPath: "/var/lib/kubelet/pods/x/etc-hosts", SelinuxRelabel: true},
			{ContainerPath: "/data", HostPath: "/mnt/data", Readonly: true, Propagation: runtimeapi.MountPropagation_PROPAGATION_HOST_TO_CONTAINER},
		},
		Labels:      map[string]string{"io.kubernetes.container.name": "vm"},
		Annotations: map[string]string{"io.kubernetes.container.hash": "5f2c", "note": secret},
		LogPath:     "vm/1.log",
		Linux: &runtimeapi.LinuxContainerConfig{
			Resources: &runtimeapi.LinuxContainerResources{
				CpuShares: 512, OomScoreAdj: 968, MemoryLimitInBytes: 512 << 20,
				HugepageLimits: []*runtimeapi.HugepageLimit{{PageSize: "2MB"}, {PageSize: "1GB"}},
			},
			SecurityContext: &runtimeapi.LinuxContainerSecurityContext{
				Capabilities:     &runtimeapi.Capability{DropCapabilities: []string{"ALL"}},
				NamespaceOptions: &runtimeapi.NamespaceOption{Pid: runtimeapi.NamespaceMode_CONTAINER},
				RunAsUser:        &runtimeapi.Int64Value{},
				RunAsGroup:       &runtimeapi.Int64Value{},
				NoNewPrivs:       true,
				MaskedPaths:      []string{"/proc/kcore"},
				ReadonlyPaths:    []string{"/proc/sys"},
				Seccomp:          &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_Unconfined},
				Apparmor:         &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_RuntimeDefault},
			},
		},
	}
}

// wantClass fails unless err has the class, names the field and tells no secret.
func wantClass(t *testing.T, err, class error, field string) {
	t.Helper()
	if !errors.Is(err, class) {
		t.Fatalf("error is %v, want one of class %q", err, class)
	}
	if errdefs.Resolve(err) != class { //nolint:errorlint // Resolve returns the sentinel itself
		t.Errorf("error %q resolves to %v, want %v", err, errdefs.Resolve(err), class)
	}
	if !strings.Contains(err.Error(), field) {
		t.Errorf("error %q does not name the field %s", err, field)
	}
	if strings.Contains(err.Error(), secret) {
		t.Errorf("error %q tells a secret", err)
	}
}

// received is what a client gets of a message.
func received[M proto.Message](tb testing.TB, m M) M {
	tb.Helper()
	wire, err := proto.Marshal(m)
	if err != nil {
		tb.Fatal(err)
	}
	got, ok := m.ProtoReflect().New().Interface().(M)
	if !ok {
		tb.Fatalf("%T makes %T", m, got)
	}
	if err := proto.Unmarshal(wire, got); err != nil {
		tb.Fatal(err)
	}
	return got
}
