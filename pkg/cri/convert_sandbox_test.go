// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vmlet/vmlet/pkg/vm"
)

func TestKubeletsSandboxIsCarriedWhole(t *testing.T) {
	got, err := sandboxSpec(kubeletSandbox(), "vm")
	if err != nil {
		t.Fatal(err)
	}
	node := vm.NamespaceNode
	want := vm.SandboxSpec{
		Name: "web-0", Namespace: "shop", UID: "7d9f2f5e-1111", Attempt: 3,
		Hostname:       "web-0",
		DNS:            vm.DNSConfig{Servers: []string{"10.96.0.10", "fd00::a"}, Searches: []string{"shop.svc.cluster.local"}, Options: []string{"ndots:5"}},
		LogDirectory:   "/var/log/pods/shop_web-0_7d9f2f5e-1111",
		Labels:         map[string]string{"io.kubernetes.pod.name": "web-0"},
		Annotations:    map[string]string{"kubernetes.io/config.source": "api", "user-data": secret},
		RuntimeHandler: "vm",
		Namespaces:     vm.Namespaces{PID: vm.NamespaceContainer, User: &node},
		CgroupParent:   "/kubepods/burstable/pod7d9f2f5e-1111",
		Resources:      &vm.Resources{CPUQuota: 50000, CPUPeriod: 100000, MemoryLimit: 512 << 20},
		Overhead:       &vm.Resources{MemoryLimit: 120 << 20},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("spec (-want +got):\n%s", diff)
	}
}

func TestSandboxesThatAreRefused(t *testing.T) {
	type config = runtimeapi.PodSandboxConfig
	ns := func(c *config) *runtimeapi.NamespaceOption {
		return c.GetLinux().GetSecurityContext().GetNamespaceOptions()
	}
	wrong, cannot := errdefs.ErrInvalidArgument, errdefs.ErrFailedPrecondition
	for name, tt := range map[string]struct {
		change func(*config)
		class  error
		field  string
	}{
		"no metadata":              {func(c *config) { c.Metadata = nil }, wrong, "config.metadata"},
		"no name":                  {func(c *config) { c.Metadata.Name = "" }, wrong, "config.metadata.name"},
		"no namespace":             {func(c *config) { c.Metadata.Namespace = "" }, wrong, "config.metadata.namespace"},
		"no UID":                   {func(c *config) { c.Metadata.Uid = "" }, wrong, "config.metadata.uid"},
		"name with CNI argument":   {func(c *config) { c.Metadata.Name = "a;IgnoreUnknown=0" }, wrong, "config.metadata.name"},
		"name with line break":     {func(c *config) { c.Metadata.Name = "a\nb" }, wrong, "config.metadata.name"},
		"UID that climbs":          {func(c *config) { c.Metadata.Uid = "../x" }, wrong, "config.metadata.uid"},
		"name too long":            {func(c *config) { c.Metadata.Name = strings.Repeat("a", 254) }, wrong, "config.metadata.name"},
		"hostname too long":        {func(c *config) { c.Hostname = strings.Repeat("a", 65) }, wrong, "config.hostname"},
		"hostname label too long":  {func(c *config) { c.Hostname = strings.Repeat("a", 64) }, wrong, "config.hostname"},
		"hostname with space":      {func(c *config) { c.Hostname = "a b" }, wrong, "config.hostname"},
		"hostname with final dash": {func(c *config) { c.Hostname = "a-" }, wrong, "config.hostname"},
		"relative log directory":   {func(c *config) { c.LogDirectory = "logs" }, wrong, "config.log_directory"},
		"log directory climbs":     {func(c *config) { c.LogDirectory = "/var/log/../../etc" }, wrong, "config.log_directory"},
		"cgroup parent climbs":     {func(c *config) { c.Linux.CgroupParent = "/kubepods/../../x" }, wrong, "config.linux.cgroup_parent"},
		"DNS server by name":       {func(c *config) { c.DnsConfig.Servers = []string{"dns.example"} }, wrong, "config.dns_config.servers[0]"},
		"search with line break":   {func(c *config) { c.DnsConfig.Searches = []string{"a", "b\nnameserver 6.6.6.6"} }, wrong, "config.dns_config.searches[1]"},
		"empty DNS option":         {func(c *config) { c.DnsConfig.Options = []string{""} }, wrong, "config.dns_config.options[0]"},
		"group without user": {func(c *config) {
			c.Linux.SecurityContext.RunAsGroup = &runtimeapi.Int64Value{Value: 1}
		}, wrong, "run_as_group"},
		"host network":        {func(c *config) { ns(c).Network = runtimeapi.NamespaceMode_NODE }, cannot, "a VM has its own network stack; remove hostNetwork"},
		"host PID":            {func(c *config) { ns(c).Pid = runtimeapi.NamespaceMode_NODE }, cannot, "remove hostPID"},
		"host IPC":            {func(c *config) { ns(c).Ipc = runtimeapi.NamespaceMode_NODE }, cannot, "remove hostIPC"},
		"PIDs of a container": {func(c *config) { ns(c).Pid = runtimeapi.NamespaceMode_TARGET }, cannot, "namespace_options.pid"},
		"no such mode":        {func(c *config) { ns(c).Ipc = 9 }, wrong, "namespace_options.ipc"},
		"user namespace": {func(c *config) {
			ns(c).UsernsOptions = &runtimeapi.UserNamespace{Uids: []*runtimeapi.IDMapping{{HostId: 65536, Length: 65536}}}
		}, cannot, "hostUsers"},
		"user namespace of a container": {func(c *config) {
			ns(c).UsernsOptions = &runtimeapi.UserNamespace{Mode: runtimeapi.NamespaceMode_CONTAINER}
		}, wrong, "userns_options.mode"},
		"mappings without a namespace": {func(c *config) { ns(c).UsernsOptions.Gids = []*runtimeapi.IDMapping{{}} }, wrong, "userns_options"},
		"negative memory":              {func(c *config) { c.Linux.Resources.MemoryLimitInBytes = -1 }, wrong, "config.linux.resources.memory_limit_in_bytes"},
		"negative overhead":            {func(c *config) { c.Linux.Overhead.CpuShares = -1 }, wrong, "config.linux.overhead.cpu_shares"},
		"port too high":                {func(c *config) { c.PortMappings = []*runtimeapi.PortMapping{{HostPort: 65536, ContainerPort: 1}} }, wrong, "config.port_mappings[0].host_port"},
		"negative port":                {func(c *config) { c.PortMappings = []*runtimeapi.PortMapping{{HostPort: -1, ContainerPort: 1}} }, wrong, "host_port"},
		"mapping to nowhere":           {func(c *config) { c.PortMappings = []*runtimeapi.PortMapping{{HostPort: 80}} }, wrong, "container_port"},
		"container port too high":      {func(c *config) { c.PortMappings = []*runtimeapi.PortMapping{{ContainerPort: 65536}} }, wrong, "container_port"},
		"host IP by name": {func(c *config) {
			c.PortMappings = []*runtimeapi.PortMapping{{HostPort: 1, ContainerPort: 1, HostIp: "lo"}}
		}, wrong, "host_ip"},
		"no such protocol": {func(c *config) {
			c.PortMappings = []*runtimeapi.PortMapping{{HostPort: 1, ContainerPort: 1, Protocol: 7}}
		}, wrong, "protocol"},
		"port taken twice": {func(c *config) {
			c.PortMappings = []*runtimeapi.PortMapping{{HostPort: 80, ContainerPort: 80}, {HostPort: 80, ContainerPort: 81}}
		}, wrong, "config.port_mappings[1]"},
	} {
		t.Run(name, func(t *testing.T) {
			config := kubeletSandbox()
			tt.change(config)
			svc := newFake()
			_, err := newServer(t, svc).RunPodSandbox(t.Context(), &runtimeapi.RunPodSandboxRequest{Config: config})
			wantClass(t, err, tt.class, tt.field)
			if len(svc.calls) != 0 {
				t.Errorf("went on to %q", svc.calls)
			}
		})
	}
}

func TestOnlyMappingsWithAHostPortReachTheNetwork(t *testing.T) {
	got, err := portMappings([]*runtimeapi.PortMapping{
		{ContainerPort: 80},
		{}, // a described port of no number: asks for nothing
		{ContainerPort: 53, HostPort: 5353, Protocol: runtimeapi.Protocol_UDP, HostIp: "127.0.0.1"},
		{ContainerPort: 53, HostPort: 5353, Protocol: runtimeapi.Protocol_TCP},
		{ContainerPort: 99, HostPort: 65535, Protocol: runtimeapi.Protocol_SCTP},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []vm.PortMapping{
		{Protocol: "udp", ContainerPort: 53, HostPort: 5353, HostIP: "127.0.0.1"},
		{Protocol: "tcp", ContainerPort: 53, HostPort: 5353},
		{Protocol: "sctp", ContainerPort: 99, HostPort: 65535},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("mappings (-want +got):\n%s", diff)
	}
}

func TestAPodWithoutAHostnameGetsOneThatAKernelTakes(t *testing.T) {
	for pod, want := range map[string]string{
		"web-0":                  "web-0",
		"Pod_with.everything":    "Pod-with-everything",
		"etcd-node1.example.com": "etcd-node1-example-com",
		"create-PodSandbox-for-container-c3f9de0f-87a2-4b0c-b0c9-7d6c24ad1a0e": "create-PodSandbox-for-container-c3f9de0f-87a2-4b0c-b0c9-7d6c24a",
		strings.Repeat("a", 62) + ".b":                                         strings.Repeat("a", 62),
		"a.":                                                                   "a",
	} {
		got := hostnameFor(pod)
		if got != want {
			t.Errorf("hostnameFor(%q) = %q, want %q", pod, got, want)
		}
		if err := checkHostname("hostname", got); err != nil {
			t.Errorf("hostnameFor(%q): %v", pod, err)
		}
	}
}

func TestASandboxIsToldBackAsItWasAskedFor(t *testing.T) {
	spec, err := sandboxSpec(kubeletSandbox(), "vm")
	if err != nil {
		t.Fatal(err)
	}
	sb := vm.Sandbox{
		ID: "0123", Spec: spec, CreatedAt: time.Unix(7, 9),
		Status: vm.SandboxStatus{State: vm.SandboxReady, Network: &vm.Network{NICs: []vm.NIC{{IPs: []vm.NICAddress{
			{Prefix: netip.MustParsePrefix("10.88.0.2/16")}, {Prefix: netip.MustParsePrefix("fd00::2/64")},
		}}}}},
	}
	asked := kubeletSandbox()
	want := &runtimeapi.PodSandboxStatus{
		Id:        "0123",
		Metadata:  asked.GetMetadata(),
		State:     runtimeapi.PodSandboxState_SANDBOX_READY,
		CreatedAt: 7_000_000_009,
		Network:   &runtimeapi.PodSandboxNetworkStatus{Ip: "10.88.0.2", AdditionalIps: []*runtimeapi.PodIP{{Ip: "fd00::2"}}},
		Linux: &runtimeapi.LinuxPodSandboxStatus{
			Namespaces: &runtimeapi.Namespace{Options: asked.GetLinux().GetSecurityContext().GetNamespaceOptions()},
		},
		Labels: asked.GetLabels(), Annotations: asked.GetAnnotations(), RuntimeHandler: "vm",
	}
	if diff := cmp.Diff(want, podSandboxStatus(sb), protocmp.Transform()); diff != "" {
		t.Errorf("status (-want +got):\n%s", diff)
	}
}

func TestOnlyAWholeSandboxIsReady(t *testing.T) {
	for state, want := range map[vm.SandboxState]runtimeapi.PodSandboxState{
		vm.SandboxReady:    runtimeapi.PodSandboxState_SANDBOX_READY,
		vm.SandboxBroken:   runtimeapi.PodSandboxState_SANDBOX_NOTREADY,
		vm.SandboxStopping: runtimeapi.PodSandboxState_SANDBOX_NOTREADY,
		vm.SandboxNotReady: runtimeapi.PodSandboxState_SANDBOX_NOTREADY,
		vm.SandboxRemoving: runtimeapi.PodSandboxState_SANDBOX_NOTREADY,
	} {
		if got := sandboxState(state); got != want {
			t.Errorf("%s is %s, want %s", state, got, want)
		}
	}
}

func TestASandboxWithoutANetworkHasNoAddress(t *testing.T) {
	if got := networkStatus(nil); got.GetIp() != "" || len(got.GetAdditionalIps()) != 0 {
		t.Errorf("network is %v, want an empty one", got)
	}
}
