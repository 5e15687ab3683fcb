// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vmlet/vmlet/pkg/vm"
)

func TestKubeletsContainerIsCarriedWhole(t *testing.T) {
	got, err := containerSpec(kubeletContainer(), "/var/log/pods/p")
	if err != nil {
		t.Fatal(err)
	}
	want := vm.ContainerSpec{
		Name: "vm", Attempt: 1,
		ImageRef:           "sha256:" + strings.Repeat("1", 64),
		UserSpecifiedImage: "registry.example:5000/vms/web:1.2",
		Command:            []string{"/bin/serve"},
		Args:               []string{"--token", secret},
		Env:                []vm.EnvVar{{Name: "TOKEN", Value: secret}, {Name: "EMPTY"}},
		Mounts: []vm.Mount{
			{ContainerPath: "/etc/hosts", HostPath: "/var/lib/kubelet/pods/x/etc-hosts", SELinuxRelabel: true},
			{ContainerPath: "/data", HostPath: "/mnt/data", ReadOnly: true, HostToGuest: true},
		},
		LogPath:     "/var/log/pods/p/vm/1.log",
		Labels:      map[string]string{"io.kubernetes.container.name": "vm"},
		Annotations: map[string]string{"io.kubernetes.container.hash": "5f2c", "note": secret},
		Resources:   &vm.Resources{CPUShares: 512, OOMScoreAdj: 968, MemoryLimit: 512 << 20},
		Security: &vm.Security{
			User: "0", Group: "0", Capabilities: []string{}, NoNewPrivileges: true,
			MaskedPaths: []string{"/proc/kcore"}, ReadonlyPaths: []string{"/proc/sys"},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("spec (-want +got):\n%s", diff)
	}
}

// noCommand makes a container the machine itself.
func noCommand(c *runtimeapi.ContainerConfig) { c.Command, c.Args = nil, nil }

// oldSeccomp and oldApparmor set the fields that older kubelets send alone.
func oldSeccomp(sc *runtimeapi.LinuxContainerSecurityContext, profile string) {
	sc.SeccompProfilePath = profile //nolint:staticcheck // deprecated, and read all the same
}

func oldApparmor(sc *runtimeapi.LinuxContainerSecurityContext, profile string) {
	sc.ApparmorProfile = profile //nolint:staticcheck // deprecated, and read all the same
}

func TestContainersThatAreRefused(t *testing.T) {
	type config = runtimeapi.ContainerConfig
	sc := func(c *config) *runtimeapi.LinuxContainerSecurityContext { return c.GetLinux().GetSecurityContext() }
	localhost := &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_Localhost, LocalhostRef: "/p.json"}
	wrong, cannot := errdefs.ErrInvalidArgument, errdefs.ErrFailedPrecondition
	for name, tt := range map[string]struct {
		change func(*config)
		class  error
		field  string
	}{
		"no metadata":         {func(c *config) { c.Metadata = nil }, wrong, "config.metadata"},
		"no name":             {func(c *config) { c.Metadata.Name = "" }, wrong, "config.metadata.name"},
		"name that is a path": {func(c *config) { c.Metadata.Name = "../../etc" }, wrong, "config.metadata.name"},
		"name too long":       {func(c *config) { c.Metadata.Name = strings.Repeat("a", 129) }, wrong, "config.metadata.name"},
		"no image":            {func(c *config) { c.Image = nil }, wrong, "config.image.image"},
		"unknown handler":     {func(c *config) { c.Image.RuntimeHandler = "runc" }, wrong, "runtime_handler"},
		"device":              {func(c *config) { c.Devices = []*runtimeapi.Device{{HostPath: "/dev/fuse"}} }, cannot, "config.devices"},
		"CDI device":          {func(c *config) { c.CDIDevices = []*runtimeapi.CDIDevice{{Name: "v/g=0"}} }, cannot, "config.CDI_devices"},
		"stop signal": {func(c *config) {
			noCommand(c)
			c.StopSignal = runtimeapi.Signal_SIGNAL_SIGUSR1
		}, cannot, "config.stop_signal"},
		"group without user":      {func(c *config) { sc(c).RunAsUser = nil }, wrong, "run_as_group"},
		"user twice":              {func(c *config) { sc(c).RunAsUsername = "root" }, wrong, "run_as_username"},
		"no such signal":          {func(c *config) { c.StopSignal = 99 }, wrong, "config.stop_signal"},
		"negative user":           {func(c *config) { sc(c).RunAsUser.Value = -1 }, wrong, "run_as_user"},
		"group of 33 bits":        {func(c *config) { sc(c).RunAsGroup.Value = 1 << 32 }, wrong, "run_as_group"},
		"the group that is none":  {func(c *config) { sc(c).SupplementalGroups = []int64{7, 1<<32 - 1} }, wrong, "supplemental_groups"},
		"user and group in one":   {func(c *config) { sc(c).RunAsUser, sc(c).RunAsUsername = nil, "www:adm" }, wrong, "run_as_username"},
		"no such capability":      {func(c *config) { sc(c).Capabilities.AddCapabilities = []string{"FLY"} }, wrong, "capabilities.add_capabilities"},
		"no such ambient one":     {func(c *config) { sc(c).Capabilities.AddAmbientCapabilities = []string{"FLY"} }, wrong, "capabilities.add_ambient_capabilities"},
		"all ambient":             {func(c *config) { sc(c).Capabilities.AddAmbientCapabilities = []string{"ALL"} }, wrong, "capabilities.add_ambient_capabilities"},
		"relative masked path":    {func(c *config) { sc(c).MaskedPaths = []string{"proc"} }, wrong, "masked_paths"},
		"climbing read-only path": {func(c *config) { sc(c).ReadonlyPaths = []string{"/a/../b"} }, wrong, "readonly_paths"},
		"no such profile type":    {func(c *config) { sc(c).Seccomp.ProfileType = 7 }, wrong, "seccomp.profile_type"},
		"relative profile": {func(c *config) {
			sc(c).Seccomp = &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_Localhost, LocalhostRef: "p.json"}
		}, wrong, "seccomp.localhost_ref"},
		"no such old profile":    {func(c *config) { sc(c).Seccomp = nil; oldSeccomp(sc(c), "strict") }, wrong, "seccomp_profile_path"},
		"machine with profile":   {func(c *config) { noCommand(c); sc(c).Seccomp = localhost }, cannot, "security_context.seccomp"},
		"host network":           {func(c *config) { sc(c).NamespaceOptions.Network = runtimeapi.NamespaceMode_NODE }, cannot, "hostNetwork"},
		"debugger's target":      {func(c *config) { sc(c).NamespaceOptions.Pid = runtimeapi.NamespaceMode_TARGET }, cannot, "namespace_options.pid"},
		"profile that is absent": {func(c *config) { sc(c).Seccomp = localhost }, cannot, "security_context.seccomp"},
		"AppArmor profile":       {func(c *config) { sc(c).Apparmor = localhost }, cannot, "security_context.apparmor"},
		"absent, old field":      {func(c *config) { sc(c).Seccomp = nil; oldSeccomp(sc(c), "localhost//p.json") }, cannot, "security_context.seccomp"},
		"AppArmor, old field":    {func(c *config) { sc(c).Apparmor = nil; oldApparmor(sc(c), "localhost/p") }, cannot, "security_context.apparmor"},
		"huge pages":             {func(c *config) { c.Linux.Resources.HugepageLimits[0].Limit = 2 << 20 }, cannot, "hugepage_limits"},
		"OOM score out of range": {func(c *config) { c.Linux.Resources.OomScoreAdj = 1001 }, wrong, "oom_score_adj"},
		"negative CPU period":    {func(c *config) { c.Linux.Resources.CpuPeriod = -1 }, wrong, "cpu_period"},
		"variable without name":  {func(c *config) { c.Envs[0].Key = "" }, wrong, "config.envs[0].key"},
		"variable with =":        {func(c *config) { c.Envs[0].Key = "A=B" }, wrong, "config.envs[0].key"},
		"value with NUL":         {func(c *config) { c.Envs[0].Value = []byte(secret + "\x00") }, wrong, "config.envs[0].value"},
		"binary value":           {func(c *config) { c.Envs[0].Value = []byte(secret + "\xff") }, wrong, "config.envs[0].value"},
		"log outside":            {func(c *config) { c.LogPath = "../other/0.log" }, wrong, "config.log_path"},
		"log climbs and returns": {func(c *config) { c.LogPath = "a/../../p/0.log" }, wrong, "config.log_path"},
		"absolute log":           {func(c *config) { c.LogPath = "/etc/passwd" }, wrong, "config.log_path"},
		"log that is the folder": {func(c *config) { c.LogPath = "." }, wrong, "config.log_path"},
		"relative mount":         {func(c *config) { c.Mounts[0].ContainerPath = "etc" }, wrong, "config.mounts[0].container_path"},
		"mount of nothing":       {func(c *config) { c.Mounts[1].HostPath = "" }, wrong, "config.mounts[1].host_path"},
		"mount that climbs":      {func(c *config) { c.Mounts[0].HostPath = "/mnt/../etc" }, wrong, "config.mounts[0].host_path"},
		"image volume": {func(c *config) {
			c.Mounts[0] = &runtimeapi.Mount{ContainerPath: "/v", Image: &runtimeapi.ImageSpec{Image: "x"}}
		}, cannot, "config.mounts[0].image"},
		"image and host path": {func(c *config) { c.Mounts[0].Image = &runtimeapi.ImageSpec{Image: "x"} }, wrong, "config.mounts[0]"},
		"mapped mount":        {func(c *config) { c.Mounts[0].UidMappings = []*runtimeapi.IDMapping{{}} }, cannot, "hostUsers"},
		"mount options":       {func(c *config) { c.Mounts[0].MountOptions = []string{"noexec"} }, cannot, "mount_options"},
		"guest to host":       {func(c *config) { c.Mounts[0].Propagation = runtimeapi.MountPropagation_PROPAGATION_BIDIRECTIONAL }, cannot, "propagation"},
		"no such propagation": {func(c *config) { c.Mounts[0].Propagation = 9 }, wrong, "propagation"},
		"recursive but writable": {func(c *config) {
			c.Mounts[0].RecursiveReadOnly = true
		}, wrong, "recursive_read_only"},
		"recursive but propagating": {func(c *config) { c.Mounts[1].RecursiveReadOnly = true }, wrong, "recursive_read_only"},
	} {
		t.Run(name, func(t *testing.T) {
			svc := newFake()
			s := newServer(t, svc)
			pod, err := s.RunPodSandbox(t.Context(), &runtimeapi.RunPodSandboxRequest{Config: kubeletSandbox()})
			if err != nil {
				t.Fatal(err)
			}
			config := kubeletContainer()
			tt.change(config)
			_, err = s.CreateContainer(t.Context(), &runtimeapi.CreateContainerRequest{PodSandboxId: pod.GetPodSandboxId(), Config: config})
			wantClass(t, err, tt.class, tt.field)
			if len(svc.containers) != 0 {
				t.Error("a container was made all the same")
			}
		})
	}
}

func TestSecurityContextsThatAreAccepted(t *testing.T) {
	for name, change := range map[string]func(*runtimeapi.LinuxContainerSecurityContext){
		"no security context": func(sc *runtimeapi.LinuxContainerSecurityContext) { proto.Reset(sc) },
		"all capabilities": func(sc *runtimeapi.LinuxContainerSecurityContext) {
			sc.Capabilities = &runtimeapi.Capability{AddCapabilities: []string{"ALL"}}
		},
		"user by name":   func(sc *runtimeapi.LinuxContainerSecurityContext) { sc.RunAsUser, sc.RunAsUsername = nil, "www" },
		"read-only root": func(sc *runtimeapi.LinuxContainerSecurityContext) { sc.ReadonlyRootfs = true },
		"SELinux": func(sc *runtimeapi.LinuxContainerSecurityContext) {
			sc.SelinuxOptions = &runtimeapi.SELinuxOption{Level: "s0"}
		},
		"old runtime/default": func(sc *runtimeapi.LinuxContainerSecurityContext) {
			sc.Seccomp = nil
			oldSeccomp(sc, "runtime/default")
		},
		"typed field wins": func(sc *runtimeapi.LinuxContainerSecurityContext) { oldSeccomp(sc, "localhost//p.json") },
		"privileged voids profiles": func(sc *runtimeapi.LinuxContainerSecurityContext) {
			sc.Privileged = true
			sc.Seccomp = &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_Localhost}
			sc.Apparmor = &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_Localhost}
		},
	} {
		t.Run(name, func(t *testing.T) {
			config := kubeletContainer()
			change(config.GetLinux().GetSecurityContext())
			if _, err := containerSpec(config, "/logs"); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestLogsStayBelowTheSandboxesFolder(t *testing.T) {
	for _, tt := range []struct{ dir, path, want string }{
		{"/logs", "vm/0.log", "/logs/vm/0.log"},
		{"/logs", "./vm//0.log", "/logs/vm/0.log"},
		{"/logs", "", ""},
		{"", "vm/0.log", ""}, // crictl without a log_directory
	} {
		got, err := logPathIn(tt.dir, tt.path)
		if err != nil || got != tt.want {
			t.Errorf("logPathIn(%q, %q) = %q, %v; want %q", tt.dir, tt.path, got, err, tt.want)
		}
	}
}

func TestAContainerIsToldBackAsItWasAskedFor(t *testing.T) {
	spec, err := containerSpec(kubeletContainer(), "/logs")
	if err != nil {
		t.Fatal(err)
	}
	spec.ImageID = spec.ImageRef
	c := vm.Container{
		ID: "c1", SandboxID: "s1", Spec: spec, CreatedAt: time.Unix(1, 1),
		Status: vm.ContainerStatus{
			State: vm.ContainerExited, StartedAt: time.Unix(2, 2),
			Exit: &vm.Exit{Code: 137, Reason: vm.ReasonOOMKilled, Message: "out of memory", At: time.Unix(3, 3)},
		},
	}
	asked := kubeletContainer()
	limits := asked.GetLinux().GetResources()
	limits.HugepageLimits = nil // limits of 0 ask for nothing
	want := &runtimeapi.ContainerStatus{
		Id: "c1", Metadata: asked.GetMetadata(), State: runtimeapi.ContainerState_CONTAINER_EXITED,
		CreatedAt: 1_000_000_001, StartedAt: 2_000_000_002, FinishedAt: 3_000_000_003,
		ExitCode: 137, Reason: "OOMKilled", Message: "out of memory",
		Image:    &runtimeapi.ImageSpec{Image: "registry.example:5000/vms/web:1.2", UserSpecifiedImage: "registry.example:5000/vms/web:1.2"},
		ImageRef: "registry.example:5000/vms/web@sha256:beef", ImageId: asked.GetImage().GetImage(),
		Labels: asked.GetLabels(), Annotations: asked.GetAnnotations(), Mounts: asked.GetMounts(),
		LogPath:   "/logs/vm/1.log",
		Resources: &runtimeapi.ContainerResources{Linux: limits},
	}
	if diff := cmp.Diff(want, containerStatus(c, want.GetImageRef()), protocmp.Transform()); diff != "" {
		t.Errorf("status (-want +got):\n%s", diff)
	}
}

func TestTimesThatHaveNotComeAreZero(t *testing.T) {
	c := vm.Container{CreatedAt: time.Unix(1, 0), Status: vm.ContainerStatus{State: vm.ContainerCreated}}
	got := containerStatus(c, "")
	if got.GetStartedAt() != 0 || got.GetFinishedAt() != 0 || got.GetCreatedAt() == 0 {
		t.Errorf("created %d, started %d, finished %d; want the first alone", got.GetCreatedAt(), got.GetStartedAt(), got.GetFinishedAt())
	}
}

func TestStatesOfContainers(t *testing.T) {
	for state, want := range map[vm.ContainerState]runtimeapi.ContainerState{
		vm.ContainerCreated:  runtimeapi.ContainerState_CONTAINER_CREATED,
		vm.ContainerStarting: runtimeapi.ContainerState_CONTAINER_CREATED,
		vm.ContainerRunning:  runtimeapi.ContainerState_CONTAINER_RUNNING,
		vm.ContainerExited:   runtimeapi.ContainerState_CONTAINER_EXITED,
		vm.ContainerRemoving: runtimeapi.ContainerState_CONTAINER_EXITED,
		"Dreaming":           runtimeapi.ContainerState_CONTAINER_UNKNOWN,
	} {
		if got := containerState(state); got != want {
			t.Errorf("%s is %s, want %s", state, got, want)
		}
	}
}

func TestTheDigestBelongsToTheNameThatWasAskedFor(t *testing.T) {
	const a, b = "a.example:5000/web@sha256:aa", "b.example/web@sha256:bb"
	img := vm.Image{ID: "sha256:11", Digests: []string{a, b}}
	for _, tt := range []struct {
		img  vm.Image
		spec vm.ContainerSpec
		want string
	}{
		{img, vm.ContainerSpec{ImageRef: "b.example/web:1"}, b},
		{img, vm.ContainerSpec{ImageRef: "sha256:11", UserSpecifiedImage: "b.example/web"}, b},
		{img, vm.ContainerSpec{ImageRef: "a.example:5000/web"}, a},
		{img, vm.ContainerSpec{ImageRef: "alias"}, a},
		{vm.Image{ID: "sha256:11"}, vm.ContainerSpec{ImageRef: "local:1", ImageID: "sha256:11"}, "sha256:11"},
	} {
		if got := digestedRef(tt.img, tt.spec); got != tt.want {
			t.Errorf("digestedRef(%v, %v) = %q, want %q", tt.img.Digests, tt.spec.ImageRef, got, tt.want)
		}
	}
}
