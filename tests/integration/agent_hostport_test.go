// SPDX-License-Identifier: Apache-2.0

//go:build integration

package integration

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vmlet/vmlet/tests/harness"
)

// TestHostPorts of both families lead to the guest.
func TestHostPorts(t *testing.T) {
	node := harness.StartNode(t)
	pod := node.Run(harness.Pod{
		Name: "hostport",
		Sandbox: func(c *runtimeapi.PodSandboxConfig) {
			c.PortMappings = []*runtimeapi.PortMapping{
				{Protocol: runtimeapi.Protocol_TCP, ContainerPort: 80, HostPort: 12080},
				{Protocol: runtimeapi.Protocol_TCP, ContainerPort: 80, HostPort: 12081, HostIp: node.BridgeIP()},
			}
		},
	})
	boot := pod.WaitReady()
	for _, address := range []string{"127.0.0.1:12080", net.JoinHostPort(node.BridgeIP(), "12080"), net.JoinHostPort(node.BridgeIP6(), "12080"), net.JoinHostPort(node.BridgeIP(), "12081")} {
		got, err := fetch(t.Context(), "http://"+address+"/boot-id")
		if err != nil || got != boot {
			t.Errorf("%s: %q, %v; want %s", address, got, err, boot)
		}
	}
	if got, err := fetch(t.Context(), "http://127.0.0.1:12081/boot-id"); err == nil {
		t.Errorf("a port of one address of the host answers on another: %q", got)
	}
}

func fetch(ctx context.Context, url string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close() //nolint:errcheck // read to its end
	body, err := io.ReadAll(res.Body)
	return strings.TrimSpace(string(body)), err
}
