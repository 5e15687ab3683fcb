// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"encoding/json"
	"errors"
	"slices"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vmlet/vmlet/pkg/vm"
)

func TestConditionsSayWhatIsMissing(t *testing.T) {
	met := func(kind string) *runtimeapi.RuntimeCondition {
		return &runtimeapi.RuntimeCondition{Type: kind, Status: true}
	}
	unmet := func(kind, reason, message string) *runtimeapi.RuntimeCondition {
		return &runtimeapi.RuntimeCondition{Type: kind, Reason: reason, Message: message}
	}
	for name, tt := range map[string]struct {
		starting, runtime, network error
		want                       []*runtimeapi.RuntimeCondition
	}{
		"all well": {want: []*runtimeapi.RuntimeCondition{met("RuntimeReady"), met("NetworkReady")}},
		"no libvirt": {runtime: errors.New("socket is gone"), want: []*runtimeapi.RuntimeCondition{
			unmet("RuntimeReady", "LibvirtNotReady", "socket is gone"), met("NetworkReady"),
		}},
		"no CNI": {network: errors.New("no configuration"), want: []*runtimeapi.RuntimeCondition{
			met("RuntimeReady"), unmet("NetworkReady", "NetworkPluginNotReady", "no configuration"),
		}},
		"starting": {starting: errors.New("recovering 1 of 2"), network: errors.New("not asked"), want: []*runtimeapi.RuntimeCondition{
			unmet("RuntimeReady", "Starting", "recovering 1 of 2"), unmet("NetworkReady", "Starting", "recovering 1 of 2"),
		}},
	} {
		t.Run(name, func(t *testing.T) {
			svc := newFake()
			svc.runtimeReady, svc.networkReady = tt.runtime, tt.network
			s := newServer(t, svc)
			s.cfg.Starting = func() error { return tt.starting }
			got, err := s.Status(t.Context(), &runtimeapi.StatusRequest{})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got.GetStatus().GetConditions(), protocmp.Transform()); diff != "" {
				t.Errorf("conditions (-want +got):\n%s", diff)
			}
			if got.GetInfo() != nil {
				t.Error("info was given without being asked for")
			}
		})
	}
}

func TestStatusListsEachHandlerOnce(t *testing.T) {
	s := newServer(t, newFake())
	s.cfg.Handlers = []string{"vm", "", "vm-large"}
	got, err := s.Status(t.Context(), &runtimeapi.StatusRequest{})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, h := range got.GetRuntimeHandlers() {
		names = append(names, h.GetName())
		if f := h.GetFeatures(); f == nil || !f.GetRecursiveReadOnlyMounts() || f.GetUserNamespaces() {
			t.Errorf("handler %q claims %v", h.GetName(), f)
		}
	}
	if want := []string{"", "vm", "vm-large"}; !slices.Equal(names, want) {
		t.Errorf("handlers are %q, want %q", names, want)
	}
	if f := got.GetFeatures(); f == nil || f.GetSupplementalGroupsPolicy() || f.GetUserNamespacesHostNetwork() || f.GetMountOptions() {
		t.Errorf("claims the features %v", f)
	}
}

func TestVerboseStatusIsJSON(t *testing.T) {
	svc := newFake()
	s := newServer(t, svc)
	s.cfg.Info = func() map[string]any { return map[string]any{"config": map[string]any{"virtualization": "tcg"}} }
	got, err := s.Status(t.Context(), &runtimeapi.StatusRequest{Verbose: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"config", "versions", "handlers"} {
		if !json.Valid([]byte(got.GetInfo()[key])) {
			t.Errorf("info %q is %q, want JSON", key, got.GetInfo()[key])
		}
	}
	if want := `{"virtualization":"tcg"}`; got.GetInfo()["config"] != want {
		t.Errorf("config is %s, want %s", got.GetInfo()["config"], want)
	}
	if text, told := got.GetInfo()["capabilities"]; told {
		t.Errorf("capabilities that are not known are told as %s", text)
	}
	svc.capabilities = []vm.Capability{{Name: "exec", Available: true}, {Name: "kvm", WhyNot: "no vmx"}}
	if got, err = s.Status(t.Context(), &runtimeapi.StatusRequest{Verbose: true}); err != nil {
		t.Fatal(err)
	}
	if want := `[{"name":"exec","available":true},{"name":"kvm","available":false,"whyNot":"no vmx"}]`; got.GetInfo()["capabilities"] != want {
		t.Errorf("capabilities are %s, want %s", got.GetInfo()["capabilities"], want)
	}
}

func TestCgroupDrivers(t *testing.T) {
	for name, want := range map[string]runtimeapi.CgroupDriver{
		"cgroupfs": runtimeapi.CgroupDriver_CGROUPFS, "systemd": runtimeapi.CgroupDriver_SYSTEMD,
	} {
		s, err := New(Config{CgroupDriver: name}, newFake())
		if err != nil {
			t.Fatal(err)
		}
		got, err := s.RuntimeConfig(t.Context(), &runtimeapi.RuntimeConfigRequest{})
		if err != nil || got.GetLinux().GetCgroupDriver() != want {
			t.Errorf("%s is told as %s, %v", name, got.GetLinux().GetCgroupDriver(), err)
		}
	}
	_, err := New(Config{CgroupDriver: "cgroups"}, newFake())
	wantClass(t, err, errdefs.ErrInvalidArgument, "cgroup driver")
}

func TestThePodCIDRIsAcceptedAndIgnored(t *testing.T) {
	svc := newFake()
	_, err := newServer(t, svc).UpdateRuntimeConfig(t.Context(), &runtimeapi.UpdateRuntimeConfigRequest{
		RuntimeConfig: &runtimeapi.RuntimeConfig{NetworkConfig: &runtimeapi.NetworkConfig{PodCidr: "10.0.0.0/24"}},
	})
	if err != nil || len(svc.calls) != 0 {
		t.Errorf("got %v after %q, want neither", err, svc.calls)
	}
}

func TestVersionsAreSemver(t *testing.T) {
	for stamped, want := range map[string]string{
		"v1.2.3":             "v1.2.3",
		"v1.2.3-4-gabc":      "v1.2.3-4-gabc",
		"0.0.0-dev":          "0.0.0-dev",
		"07d08e4":            "0.0.0+build.07d08e4",
		"07d08e4-dirty":      "0.0.0+build.07d08e4-dirty",
		"release/1.2 (mine)": "0.0.0+build.release-1.2-mine",
		"":                   "0.0.0+build",
	} {
		got := semver(stamped)
		if got != want {
			t.Errorf("semver(%q) = %q, want %q", stamped, got, want)
		}
	}
	got, err := newServer(t, newFake()).Version(t.Context(), &runtimeapi.VersionRequest{Version: "0.1.0"})
	if err != nil {
		t.Fatal(err)
	}
	if got.GetVersion() != "0.1.0" || got.GetRuntimeName() != "vmlet" || !semverSyntax.MatchString(got.GetRuntimeVersion()) || !semverSyntax.MatchString(got.GetRuntimeApiVersion()) {
		t.Errorf("version is %v", got)
	}
}
