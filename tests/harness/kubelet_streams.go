// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
)

// StartExec begins a command in a pod's VM with its streams connected, by kubelet's /exec.
func (k *Kubelet) StartExec(ctx context.Context, name string, s Streams, command ...string) (*Session, error) {
	query := s.query()
	query["command"] = command
	return Connect(ctx, k.URL(k.PodPath("exec", name)+"?"+query.Encode()), s)
}

// StartAttach connects to the command of a pod's VM, by kubelet's /attach.
func (k *Kubelet) StartAttach(ctx context.Context, name string, s Streams) (*Session, error) {
	return Connect(ctx, k.URL(k.PodPath("attach", name)+"?"+s.query().Encode()), s)
}

// StartForward connects to a pod, by kubelet's /portForward.
func (k *Kubelet) StartForward(ctx context.Context, name string) (*Forward, error) {
	return ConnectForward(ctx, k.URL(fmt.Sprintf("/portForward/default/%s-%s", name, kubeletNode)))
}

// query says in the words of core/v1 (ExecStdinParam and those beside it) what is connected.
func (s Streams) query() url.Values {
	query := url.Values{}
	for param, connected := range map[string]bool{"input": s.Stdin != nil, "output": s.Stdout != nil, "error": s.Stderr != nil, "tty": s.TTY} {
		if connected {
			query.Set(param, "1")
		}
	}
	return query
}

// Follow is the log of a pod's VM from its beginning on, as `kubectl logs -f` has it, until ctx ends.
func (k *Kubelet) Follow(ctx context.Context, name string) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, k.URL(k.PodPath("containerLogs", name)+"?follow=true"), nil)
	if err != nil {
		return nil, err
	}
	// Without the patience of k.client: the log may be long.
	client := http.Client{Transport: k.client.Transport}
	res, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("follow the log of %s: %s", name, res.Status)
	}
	return res.Body, nil
}

// Reconfigure restarts kubelet with other lines of configuration than it was started with. Pods run on.
func (k *Kubelet) Reconfigure(yaml string) {
	k.t.Helper()
	k.Stop()
	k.cfg.extra = yaml + "\n"
	k.writeConfig()
	k.Start()
}
