// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vmlet/vmlet/pkg/log"
	"github.com/vmlet/vmlet/pkg/vm"
)

func addMessage(f *testing.F, m proto.Message) {
	f.Helper()
	wire, err := proto.Marshal(m)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(wire)
}

// wantClientsFault fails unless err blames the request.
func wantClientsFault(t *testing.T, err error) {
	t.Helper()
	if !errors.Is(err, errdefs.ErrInvalidArgument) && !errors.Is(err, errdefs.ErrFailedPrecondition) {
		t.Fatalf("%v has no class that blames the request", err)
	}
}

// Whatever is accepted is safe to build names from, and is told back unchanged.
func FuzzSandboxConfig(f *testing.F) {
	addMessage(f, kubeletSandbox())
	addMessage(f, &runtimeapi.PodSandboxConfig{Metadata: &runtimeapi.PodSandboxMetadata{Name: "a_.", Namespace: "b", Uid: "c"}})
	f.Fuzz(func(t *testing.T, wire []byte) {
		config := &runtimeapi.PodSandboxConfig{}
		if proto.Unmarshal(wire, config) != nil {
			return
		}
		spec, err := sandboxSpec(config, "")
		if err != nil {
			wantClientsFault(t, err)
			return
		}
		if strings.ContainsAny(spec.Name+spec.Namespace+spec.UID, "/;=\n ") {
			t.Errorf("names %q, %q, %q are not safe", spec.Name, spec.Namespace, spec.UID)
		}
		if spec.Hostname == "" || len(spec.Hostname) > maxHostname {
			t.Errorf("host name %q", spec.Hostname)
		}
		status := podSandboxStatus(vm.Sandbox{Spec: spec})
		if diff := cmp.Diff(config.GetMetadata(), status.GetMetadata(), protocmp.Transform(), protocmp.IgnoreUnknown()); diff != "" {
			t.Errorf("metadata (-asked +told):\n%s", diff)
		}
		if !sameMap(config.GetLabels(), status.GetLabels()) || !sameMap(config.GetAnnotations(), status.GetAnnotations()) {
			t.Error("labels or annotations were altered")
		}
	})
}

// Whatever is accepted keeps its log below the sandbox's folder and its name in one piece
// of a path, and is told back unchanged.
func FuzzContainerConfig(f *testing.F) {
	addMessage(f, kubeletContainer())
	f.Fuzz(func(t *testing.T, wire []byte) {
		config := &runtimeapi.ContainerConfig{}
		if proto.Unmarshal(wire, config) != nil {
			return
		}
		spec, err := containerSpec(config, "/var/log/pods/p")
		if err != nil {
			wantClientsFault(t, err)
			return
		}
		if filepath.Base(spec.Name) != spec.Name || spec.Name == ".." {
			t.Errorf("name %q is not one piece of a path", spec.Name)
		}
		if spec.LogPath != "" && !strings.HasPrefix(filepath.Clean(spec.LogPath), "/var/log/pods/p/") {
			t.Errorf("log %q is outside", spec.LogPath)
		}
		if len(spec.Env) != len(config.GetEnvs()) || len(spec.Mounts) != len(config.GetMounts()) {
			t.Error("environment or mounts were dropped")
		}
		status := containerStatus(vm.Container{Spec: spec}, "")
		if diff := cmp.Diff(config.GetMetadata(), status.GetMetadata(), protocmp.Transform(), protocmp.IgnoreUnknown()); diff != "" {
			t.Errorf("metadata (-asked +told):\n%s", diff)
		}
		if !sameMap(config.GetLabels(), status.GetLabels()) || !sameMap(config.GetAnnotations(), status.GetAnnotations()) {
			t.Error("labels or annotations were altered")
		}
		for i, m := range config.GetMounts() {
			if diff := cmp.Diff(m, status.GetMounts()[i], protocmp.Transform(), protocmp.IgnoreUnknown()); diff != "" {
				t.Errorf("mount %d (-asked +told):\n%s", i, diff)
			}
		}
	})
}

func FuzzImageReference(f *testing.F) {
	f.Add("u:p/q@a.example:5000/web:1@sha256:00?x=y")
	f.Fuzz(func(t *testing.T, ref string) {
		shown := log.WithoutLogin(ref)
		if name, digest, _ := strings.Cut(shown, "@sha256:"); strings.Contains(name+digest, "@") {
			t.Errorf("%q is shown as %q: what is before the @?", ref, shown)
		}
		if len(repository(ref)) > len(ref) {
			t.Errorf("repository of %q is %q", ref, repository(ref))
		}
	})
}

func sameMap(a, b map[string]string) bool {
	return len(a) == 0 && len(b) == 0 || cmp.Equal(a, b)
}
