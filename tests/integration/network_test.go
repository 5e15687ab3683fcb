// SPDX-License-Identifier: Apache-2.0

//go:build integration

package integration

import (
	"context"
	"fmt"
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vmlet/vmlet/tests/harness"
)

// TestNetnsNeverAnswersForTheGuest: before the guest is there and after it is gone, nobody
// answers at its addresses; while it runs, it does, by IPv4 and IPv6.
func TestNetnsNeverAnswersForTheGuest(t *testing.T) {
	node := harness.StartNode(t)
	pod := node.RunSandbox(harness.Pod{Name: "silent"})
	ips := addresses(t, node, pod.SandboxID)
	if len(ips) != 2 {
		t.Fatalf("addresses: %v, want IPv4 and IPv6", ips)
	}
	silent := func(when string) {
		t.Helper()
		for _, ip := range ips {
			if pings(ip) {
				t.Errorf("%s: %s answers a ping", when, ip)
			}
			if conn, err := net.DialTimeout("tcp", net.JoinHostPort(ip, "80"), time.Second); err == nil {
				t.Errorf("%s: %s answers at port 80", when, ip)
				_ = conn.Close() //nolint:errcheck // it should not be there at all
			} else if strings.Contains(err.Error(), "refused") {
				t.Errorf("%s: %s sent a reset: %v", when, ip, err)
			}
		}
	}
	silent("without a VM")
	pod.Create()
	pod.Start()
	pod.WaitReady()
	for _, ip := range ips {
		node.Eventually(20*time.Second, func() error {
			if !pings(ip) {
				return fmt.Errorf("%s does not answer a ping", ip)
			}
			return nil
		})
	}
	stop(t, node, pod.ContainerID, 0)
	silent("after the VM")
}

func addresses(t *testing.T, node *harness.Node, sandboxID string) []string {
	t.Helper()
	st, err := node.PodSandboxStatus(t.Context(), &runtimeapi.PodSandboxStatusRequest{PodSandboxId: sandboxID})
	if err != nil {
		t.Fatal(err)
	}
	ips := []string{st.GetStatus().GetNetwork().GetIp()}
	for _, more := range st.GetStatus().GetNetwork().GetAdditionalIps() {
		ips = append(ips, more.GetIp())
	}
	return ips
}

func pings(ip string) bool {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return exec.CommandContext(ctx, "ping", "-c", "1", "-W", "1", ip).Run() == nil
}

// TestGuestsCannotSpoof: what a guest sends under another address than its own does not
// leave its pod.
func TestGuestsCannotSpoof(t *testing.T) {
	node := harness.StartNode(t)
	victim := node.RunSandbox(harness.Pod{Name: "victim"})
	liar := node.Run(harness.Pod{Name: "liar"})
	liar.WaitReady()
	if !pings(liar.IP) {
		t.Fatal("the guest does not answer at its own address")
	}
	// The guest takes the other pod's address beside its own, announces it and answers for it.
	liar.Exec("sh", "-c", "ip addr add "+victim.IP+"/32 dev eth0; arping -U -c 2 -I eth0 "+victim.IP+" || true")
	if pings(victim.IP) {
		t.Error("a guest answers for another pod's address")
	}
	liar.Exec("sh", "-c", "ip link set eth0 down; ip link set eth0 address 02:00:00:00:00:66; ip link set eth0 up")
	if pings(liar.IP) {
		t.Error("a guest is heard under another MAC address")
	}
}
