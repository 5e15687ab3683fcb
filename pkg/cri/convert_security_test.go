// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vmlet/vmlet/pkg/vm"
)

type securityContext = runtimeapi.LinuxContainerSecurityContext

func id(n int64) *runtimeapi.Int64Value { return &runtimeapi.Int64Value{Value: n} }

func TestSecurityOfACommand(t *testing.T) {
	full := func() *securityContext {
		return &securityContext{
			RunAsUser: id(1001), RunAsGroup: id(1002), SupplementalGroups: []int64{7, 1<<32 - 2},
			SupplementalGroupsPolicy: runtimeapi.SupplementalGroupsPolicy_Strict,
			ReadonlyRootfs:           true, NoNewPrivs: true, MaskedPaths: []string{"/proc/kcore"}, ReadonlyPaths: []string{"/proc/sys"},
			Capabilities: &runtimeapi.Capability{AddCapabilities: []string{"net_admin"}, DropCapabilities: []string{"ALL"}},
		}
	}
	want := vm.Security{
		User: "1001", Group: "1002", SupplementalGroups: []uint32{7, 1<<32 - 2}, StrictGroups: true,
		ReadonlyRoot: true, NoNewPrivileges: true, MaskedPaths: []string{"/proc/kcore"}, ReadonlyPaths: []string{"/proc/sys"},
		Capabilities: []string{"CAP_NET_ADMIN"},
	}
	privileged := want
	privileged.Capabilities, privileged.MaskedPaths, privileged.ReadonlyPaths = nil, nil, nil
	for name, tt := range map[string]struct {
		change func(*securityContext)
		want   vm.Security
	}{
		"all of it":  {func(*securityContext) {}, want},
		"privileged": {func(sc *securityContext) { sc.Privileged = true }, privileged},
		"nothing":    {func(sc *securityContext) { *sc = securityContext{} }, vm.Security{Capabilities: defaultCapabilities}},
		"by name": {func(sc *securityContext) { *sc = securityContext{RunAsUsername: "nobody"} },
			vm.Security{User: "nobody", Capabilities: defaultCapabilities}},
	} {
		sc := full()
		tt.change(sc)
		got, err := security(sc, true)
		if err != nil {
			t.Fatal(name, err)
		}
		if diff := cmp.Diff(&tt.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestAMachineHasTheUserThatWasAskedForAndNoOtherRules(t *testing.T) {
	limits := &securityContext{ReadonlyRootfs: true, NoNewPrivs: true, MaskedPaths: []string{"/proc"}, Capabilities: &runtimeapi.Capability{DropCapabilities: []string{"ALL"}}}
	asRoot := &securityContext{RunAsUser: id(0), RunAsGroup: id(0)}
	for name, tt := range map[string]struct {
		sc   *securityContext
		want *vm.Security
	}{
		"nothing":           {nil, nil},
		"limits":            {limits, nil},
		"what kubelets say": {asRoot, nil},
		"user":              {&securityContext{RunAsUser: id(1000)}, &vm.Security{User: "1000"}},
		"group of root":     {&securityContext{RunAsUser: id(0), RunAsGroup: id(5)}, &vm.Security{User: "0", Group: "5"}},
		"more groups":       {&securityContext{SupplementalGroups: []int64{5}}, &vm.Security{SupplementalGroups: []uint32{5}}},
		"only those groups": {&securityContext{SupplementalGroupsPolicy: runtimeapi.SupplementalGroupsPolicy_Strict}, &vm.Security{StrictGroups: true}},
	} {
		got, err := security(tt.sc, false)
		if err != nil {
			t.Fatal(name, err)
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestCapabilitiesAreAddedAndDroppedAsContainerdDoes(t *testing.T) {
	without := func(all []string, drop ...string) []string {
		return slices.DeleteFunc(slices.Clone(all), func(c string) bool { return slices.Contains(drop, c) })
	}
	with := func(all []string, add ...string) []string {
		out := append(slices.Clone(all), add...)
		slices.Sort(out)
		return out
	}
	for name, tt := range map[string]struct {
		add, drop, addAmbient []string
		want, ambient         []string
	}{
		"none":                {want: defaultCapabilities},
		"one more":            {add: []string{"NET_ADMIN"}, want: with(defaultCapabilities, "CAP_NET_ADMIN")},
		"one that is there":   {add: []string{"CAP_CHOWN", "chown"}, want: defaultCapabilities},
		"one less":            {drop: []string{"NET_RAW"}, want: without(defaultCapabilities, "CAP_NET_RAW")},
		"added and dropped":   {add: []string{"SYS_TIME"}, drop: []string{"SYS_TIME"}, want: defaultCapabilities},
		"all":                 {add: []string{"ALL"}, want: knownCapabilities},
		"all but one":         {add: []string{"all"}, drop: []string{"SYS_ADMIN"}, want: without(knownCapabilities, "CAP_SYS_ADMIN")},
		"none at all":         {drop: []string{"ALL"}, want: []string{}},
		"only one":            {add: []string{"NET_BIND_SERVICE"}, drop: []string{"ALL"}, want: []string{"CAP_NET_BIND_SERVICE"}},
		"ambient":             {drop: []string{"ALL"}, addAmbient: []string{"NET_BIND_SERVICE"}, want: []string{"CAP_NET_BIND_SERVICE"}, ambient: []string{"CAP_NET_BIND_SERVICE"}},
		"ambient and dropped": {drop: []string{"KILL"}, addAmbient: []string{"KILL"}, want: without(defaultCapabilities, "CAP_KILL")},
	} {
		got, ambient, err := capabilities(&runtimeapi.Capability{AddCapabilities: tt.add, DropCapabilities: tt.drop, AddAmbientCapabilities: tt.addAmbient})
		if err != nil {
			t.Fatal(name, err)
		}
		if got == nil {
			t.Errorf("%s: nil, which would be all of them", name)
		}
		if !slices.Equal(got, tt.want) || !slices.Equal(ambient, tt.ambient) {
			t.Errorf("%s: %v, ambient %v; want %v, %v", name, got, ambient, tt.want, tt.ambient)
		}
	}
	if len(knownCapabilities) != 41 || len(defaultCapabilities) != 14 {
		t.Errorf("%d capabilities, %d of them by default", len(knownCapabilities), len(defaultCapabilities))
	}
}

func TestStopSignals(t *testing.T) {
	for signal, want := range map[runtimeapi.Signal]string{
		runtimeapi.Signal_SIGNAL_RUNTIME_DEFAULT: "",
		runtimeapi.Signal_SIGNAL_SIGUSR1:         "SIGUSR1",
		runtimeapi.Signal_SIGNAL_SIGCLD:          "SIGCHLD",
		runtimeapi.Signal_SIGNAL_SIGRTMIN:        "SIGRTMIN",
		runtimeapi.Signal_SIGNAL_SIGRTMINPLUS15:  "SIGRTMIN+15",
		runtimeapi.Signal_SIGNAL_SIGRTMAXMINUS14: "SIGRTMAX-14",
		runtimeapi.Signal_SIGNAL_SIGRTMAX:        "SIGRTMAX",
	} {
		config := kubeletContainer()
		config.StopSignal = signal
		spec, err := containerSpec(config, "")
		if err != nil || spec.StopSignal != want {
			t.Errorf("%s: %q, %v; want %q", signal, spec.StopSignal, err, want)
		}
	}
}

// seccompOf is what a container with this context is created with.
func seccompOf(t *testing.T, change func(*runtimeapi.ContainerConfig)) []byte {
	t.Helper()
	svc := newFake()
	s := newServer(t, svc)
	pod, err := s.RunPodSandbox(t.Context(), &runtimeapi.RunPodSandboxRequest{Config: kubeletSandbox()})
	if err != nil {
		t.Fatal(err)
	}
	config := kubeletContainer()
	change(config)
	if _, err := s.CreateContainer(t.Context(), &runtimeapi.CreateContainerRequest{PodSandboxId: pod.GetPodSandboxId(), Config: config}); err != nil {
		t.Fatal(err)
	}
	if rights := svc.containers[0].Spec.Security; rights != nil {
		return rights.Seccomp
	}
	return nil
}

func TestSeccompProfilesBecomePrograms(t *testing.T) {
	file := filepath.Join(t.TempDir(), "p.json")
	if err := os.WriteFile(file, []byte(`{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["chmod"],"action":"SCMP_ACT_ERRNO"}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	profile := func(kind runtimeapi.SecurityProfile_ProfileType, ref string) func(*runtimeapi.ContainerConfig) {
		return func(c *runtimeapi.ContainerConfig) {
			c.Linux.SecurityContext.Seccomp = &runtimeapi.SecurityProfile{ProfileType: kind, LocalhostRef: ref}
		}
	}
	old := func(text string) func(*runtimeapi.ContainerConfig) {
		return func(c *runtimeapi.ContainerConfig) {
			c.Linux.SecurityContext.Seccomp = nil
			oldSeccomp(c.GetLinux().GetSecurityContext(), text)
		}
	}
	byDefault := seccompOf(t, profile(runtimeapi.SecurityProfile_RuntimeDefault, ""))
	local := seccompOf(t, profile(runtimeapi.SecurityProfile_Localhost, file))
	if len(byDefault) < len(local) || len(local) == 0 {
		t.Fatalf("the default has %d bytes, a profile of one rule %d", len(byDefault), len(local))
	}
	for name, tt := range map[string]struct {
		change func(*runtimeapi.ContainerConfig)
		want   []byte
	}{
		"unconfined":         {profile(runtimeapi.SecurityProfile_Unconfined, ""), nil},
		"none":               {old(""), nil},
		"old default":        {old("runtime/default"), byDefault},
		"older default":      {old("docker/default"), byDefault},
		"old unconfined":     {old("unconfined"), nil},
		"old file":           {old("localhost/" + file), local},
		"the new field wins": {func(c *runtimeapi.ContainerConfig) { oldSeccomp(c.GetLinux().GetSecurityContext(), "localhost/"+file) }, nil},
		"privileged": {func(c *runtimeapi.ContainerConfig) {
			c.Linux.SecurityContext.Privileged = true
			profile(runtimeapi.SecurityProfile_Localhost, "/absent")(c)
		}, nil},
		"a machine": {func(c *runtimeapi.ContainerConfig) {
			noCommand(c)
			profile(runtimeapi.SecurityProfile_RuntimeDefault, "")(c)
		}, nil},
	} {
		if got := seccompOf(t, tt.change); !slices.Equal(got, tt.want) {
			t.Errorf("%s: a program of %d bytes, want %d", name, len(got), len(tt.want))
		}
	}
	more := seccompOf(t, func(c *runtimeapi.ContainerConfig) {
		profile(runtimeapi.SecurityProfile_RuntimeDefault, "")(c)
		c.Linux.SecurityContext.Capabilities = &runtimeapi.Capability{AddCapabilities: []string{"SYS_ADMIN"}}
	})
	if slices.Equal(more, byDefault) {
		t.Error("the default does not follow the capabilities")
	}
}
