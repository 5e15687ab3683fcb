// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// URL is a page of kubelet's server, such as "/containerLogs/default/a-node1/vm".
func (*Kubelet) URL(path string) string {
	return fmt.Sprintf("https://127.0.0.1:%d%s", kubeletPort, path)
}

// PodPath is what kubelet's server has a pod's VM under: CALL/NAMESPACE/POD/CONTAINER.
func (*Kubelet) PodPath(call, name string) string {
	return fmt.Sprintf("/%s/default/%s-%s/vm", call, name, kubeletNode)
}

// Get fetches a page of kubelet's server.
func (k *Kubelet) Get(path string) (string, error) { return k.get(k.URL(path)) }

// Log is the log of a pod's VM, as `kubectl logs` has it.
func (k *Kubelet) Log(name string) string {
	k.t.Helper()
	text, err := k.Get(k.PodPath("containerLogs", name))
	if err != nil {
		k.t.Fatal(err)
	}
	return text
}

// WaitLog waits until the log of a pod's VM has a text.
func (k *Kubelet) WaitLog(name, text string) string {
	k.t.Helper()
	var log string
	k.Node.Eventually(logPatience, func() (err error) {
		if log, err = k.Get(k.PodPath("containerLogs", name)); err != nil {
			return err
		}
		if !strings.Contains(log, text) {
			return fmt.Errorf("no %q in the log of %s, which ends: %q", text, name, tail(log, 300))
		}
		return nil
	})
	return log
}

// Run runs a command in a pod's VM by kubelet's /run: what it prints, and an error for another exit code than 0.
func (k *Kubelet) Run(name, command string) (string, error) {
	ctx, cancel := k.ctx()
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, k.URL(k.PodPath("run", name)+"?cmd="+url.QueryEscape(command)), nil)
	if err != nil {
		return "", err
	}
	return k.do(req)
}

func (k *Kubelet) get(address string) (string, error) {
	ctx, cancel := k.ctx()
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return "", err
	}
	return k.do(req)
}

func (k *Kubelet) do(req *http.Request) (string, error) {
	res, err := k.client.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close() //nolint:errcheck // read to its end
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return "", err
	}
	if res.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s: %s: %s", req.URL.Path, res.Status, body)
	}
	return string(body), nil
}
