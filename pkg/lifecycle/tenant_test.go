// SPDX-License-Identifier: Apache-2.0

package lifecycle_test

import (
	"strings"
	"testing"
	"testing/synctest"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/vm"
)

// Two tenants may have pods of one name in namespaces of one name.
func TestPodsOfTwoTenantsAreToldApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		ids := map[string]string{}
		for _, tenant := range []string{"acme", "evil"} {
			spec := podSpec("a")
			spec.Tenant, spec.UID = tenant, "uid"
			id, err := w.svc.RunSandbox(t.Context(), spec)
			w.must(err)
			w.must(w.svc.StartContainer(t.Context(), w.created(id, 0)))
			ids[tenant] = id
		}
		_, err := w.svc.NICs("default/a")
		if !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), ids["acme"]+" of tenant acme") || !strings.Contains(err.Error(), ids["evil"]+" of tenant evil") {
			t.Errorf("error = %v", err)
		}
		_, err = w.svc.AttachNIC(t.Context(), "evil/default/a", vm.NICSpec{Name: "eth1"}, nil)
		w.must(err)
		for tenant, id := range ids {
			if nics, err := w.svc.NICs(id); err != nil || (len(nics) == 2) != (tenant == "evil") {
				t.Errorf("%s has %v, %v", tenant, nics, err)
			}
		}
		w.must(w.svc.StopSandbox(t.Context(), ids["evil"]))
		if _, err := w.svc.NICs("default/a"); err != nil {
			t.Error(err)
		}
		if _, err := w.svc.NICs("other/default/a"); !errdefs.IsNotFound(err) {
			t.Errorf("error = %v", err)
		}
	})
}

// Settings are what annotations are, but for being told back; an annotation counts before one.
func TestSettingsAreWhatAnnotationsAre(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		for name, tc := range map[string]struct {
			annotations map[string]string
			vcpus       int
		}{
			"alone":   {nil, 3},
			"less":    {map[string]string{"vmlet.io/vcpus": "2"}, 2},
			"neither": {map[string]string{"other": "2"}, 3},
		} {
			spec := podSpec(name)
			spec.Settings, spec.Annotations = map[string]string{"vmlet.io/vcpus": "3"}, tc.annotations
			id, err := w.svc.RunSandbox(t.Context(), spec)
			w.must(err)
			if c := w.container(w.created(id, 0)); c.Status.Size.VCPUs != tc.vcpus {
				t.Errorf("%s: %d CPUs", name, c.Status.Size.VCPUs)
			}
		}
		spec := podSpec("bad")
		spec.Settings = map[string]string{"vmlet.io/vcpus": "many"}
		if _, err := w.svc.RunSandbox(t.Context(), spec); !errdefs.IsInvalidArgument(err) {
			t.Errorf("error = %v", err)
		}
	})
}
