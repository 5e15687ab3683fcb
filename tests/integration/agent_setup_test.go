// SPDX-License-Identifier: Apache-2.0

//go:build integration

package integration

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vmlet/vmlet/tests/harness"
)

// TestPodsSettingsReachTheGuest before its command starts: hostname, sysctls, DNS.
func TestPodsSettingsReachTheGuest(t *testing.T) {
	node := harness.StartNode(t)
	pod := node.Run(harness.Pod{
		Name:    "settings",
		Command: []string{"sh", "-c", "hostname; cat /proc/sys/fs/mqueue/msg_max /proc/sys/net/ipv4/ip_unprivileged_port_start /etc/resolv.conf"},
		Sandbox: func(c *runtimeapi.PodSandboxConfig) {
			c.Hostname = "set-by-the-pod"
			c.Linux.Sysctls = map[string]string{"fs.mqueue.msg_max": "123", "net.ipv4.ip_unprivileged_port_start": "42"}
			c.DnsConfig = &runtimeapi.DNSConfig{Servers: []string{"10.10.10.10"}, Searches: []string{"a.example", "b.example"}, Options: []string{"ndots:8"}}
		},
	})
	if st := pod.WaitExited(); st.GetExitCode() != 0 {
		t.Errorf("exit %d %s (%s)", st.GetExitCode(), st.GetReason(), st.GetMessage())
	}
	want := "set-by-the-pod\n123\n42\nnameserver 10.10.10.10\nsearch a.example b.example\noptions ndots:8\n"
	if diff := cmp.Diff(want, pod.Output("stdout")); diff != "" {
		t.Errorf("want -, got +:\n%s", diff)
	}
}
