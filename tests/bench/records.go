// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"fmt"
	"testing"
	"time"

	"github.com/vmlet/vmlet/pkg/paths"
	"github.com/vmlet/vmlet/pkg/store"
	"github.com/vmlet/vmlet/pkg/vm"
)

// fillStore writes the records of stopped pods with one ended container each, such as a
// kubelet leaves for its garbage collection, and returns the sandboxes' IDs. Recovery has
// nothing to do for these: there is neither a domain nor a network to look for.
func fillStore(t *testing.T, node paths.Node, n int) []string {
	t.Helper()
	st, err := store.Open(t.Context(), node, store.Options{NoSync: true})
	must(t, err)
	var ids []string
	begin := time.Now().Add(-time.Hour)
	for i := range n {
		sb := stoppedSandbox(i, begin.Add(time.Duration(i)*time.Second))
		must(t, st.Sandboxes().Create(sb.ID, sb, "filled"))
		c := endedContainer(sb)
		must(t, st.Containers().Create(c.ID, c, "filled"))
		ids = append(ids, sb.ID)
	}
	must(t, st.Close())
	return ids
}

// stoppedSandbox is what a kubelet sends for a pod of a Deployment.
func stoppedSandbox(i int, at time.Time) vm.Sandbox {
	name, uid := fmt.Sprintf("web-6d4cf56db6-%05d", i), vm.UUIDFromID(newID())
	return vm.Sandbox{
		ID: newID(), CreatedAt: at,
		Spec: vm.SandboxSpec{
			Name: name, Namespace: "production", UID: uid, Hostname: name,
			DNS:          vm.DNSConfig{Servers: []string{"10.96.0.10"}, Searches: []string{"production.svc.cluster.local", "svc.cluster.local", "cluster.local"}, Options: []string{"ndots:5"}},
			LogDirectory: "/var/log/pods/production_" + name + "_" + uid,
			PortMappings: []vm.PortMapping{{Protocol: "tcp", ContainerPort: 8080}},
			Labels: map[string]string{
				"app.kubernetes.io/name": "web", "app.kubernetes.io/instance": "web-production", "app.kubernetes.io/version": "2.14.1",
				"app.kubernetes.io/component": "frontend", "app.kubernetes.io/part-of": "shop", "pod-template-hash": "6d4cf56db6",
				"io.kubernetes.pod.name": name, "io.kubernetes.pod.namespace": "production", "io.kubernetes.pod.uid": uid,
			},
			Annotations: map[string]string{
				"kubernetes.io/config.seen": at.Format(time.RFC3339Nano), "kubernetes.io/config.source": "api",
				"prometheus.io/scrape": "true", "prometheus.io/port": "8080",
				"checksum/config": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
			},
			CgroupParent: "/kubepods/burstable/pod" + uid,
			Resources:    &vm.Resources{CPUPeriod: 100000, CPUQuota: 100000, CPUShares: 512, MemoryLimit: 512 * vm.MiB},
		},
		Status: vm.SandboxStatus{State: vm.SandboxNotReady},
	}
}

// endedContainer is the container of a pod whose guest powered itself off.
func endedContainer(sb vm.Sandbox) vm.Container {
	labels := map[string]string{"io.kubernetes.container.name": "vm"}
	for _, key := range []string{"io.kubernetes.pod.name", "io.kubernetes.pod.namespace", "io.kubernetes.pod.uid"} {
		labels[key] = sb.Spec.Labels[key]
	}
	at := sb.CreatedAt.Add(time.Second)
	return vm.Container{
		ID: newID(), SandboxID: sb.ID, CreatedAt: at,
		Spec: vm.ContainerSpec{
			Name: "vm", ImageRef: "registry.example/shop/web:2.14.1", UserSpecifiedImage: "registry.example/shop/web:2.14.1",
			ImageID: "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
			Env:     []vm.EnvVar{{Name: "KUBERNETES_SERVICE_HOST", Value: "10.96.0.1"}, {Name: "KUBERNETES_SERVICE_PORT", Value: "443"}, {Name: "LOG_LEVEL", Value: "info"}},
			Mounts: []vm.Mount{
				{ContainerPath: "/etc/hosts", HostPath: "/var/lib/kubelet/pods/" + sb.Spec.UID + "/etc-hosts"},
				{ContainerPath: "/dev/termination-log", HostPath: "/var/lib/kubelet/pods/" + sb.Spec.UID + "/containers/vm/1"},
				{ContainerPath: "/var/run/secrets/kubernetes.io/serviceaccount", HostPath: "/var/lib/kubelet/pods/" + sb.Spec.UID + "/volumes/token", ReadOnly: true},
			},
			LogPath: sb.Spec.LogDirectory + "/vm/0.log", Labels: labels, Resources: sb.Spec.Resources,
			Annotations: map[string]string{
				"io.kubernetes.container.hash": "8d2ce1f5", "io.kubernetes.container.restartCount": "0",
				"io.kubernetes.container.terminationMessagePath": "/dev/termination-log", "io.kubernetes.container.terminationMessagePolicy": "File",
				"io.kubernetes.container.ports":            `[{"containerPort":8080,"protocol":"TCP"}]`,
				"io.kubernetes.pod.terminationGracePeriod": "30",
			},
		},
		Status: vm.ContainerStatus{
			State: vm.ContainerExited, StartedAt: at.Add(time.Second),
			Exit: &vm.Exit{Code: 0, Reason: vm.ReasonCompleted, At: at.Add(time.Minute)},
		},
	}
}
