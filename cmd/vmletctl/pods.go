// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"slices"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// pod is a pod sandbox with the boots of its VM.
type pod struct {
	sandbox    *runtimeapi.PodSandbox
	containers []*runtimeapi.Container // newest first
}

// labelTenant is where a node agent that knows tenants has the pod's.
const labelTenant = "io.kubernetes.pod.tenant"

// inNamespace is the pod's name with its namespace, which pods of several tenants may share.
func (p pod) inNamespace() string {
	return p.sandbox.GetMetadata().GetNamespace() + "/" + p.sandbox.GetMetadata().GetName()
}

// String is what people call the pod by.
func (p pod) String() string {
	if tenant := p.sandbox.GetLabels()[labelTenant]; tenant != "" {
		return tenant + "/" + p.inNamespace()
	}
	return p.inNamespace()
}

func (p pod) ready() bool { return p.sandbox.GetState() == runtimeapi.PodSandboxState_SANDBOX_READY }

func (p pod) running() bool { return slices.ContainsFunc(p.containers, running) }

// container is the one that runs, else the newest one, nil if there is none.
func (p pod) container() *runtimeapi.Container {
	for _, c := range p.containers {
		if running(c) {
			return c
		}
	}
	if len(p.containers) > 0 {
		return p.containers[0]
	}
	return nil
}

func running(c *runtimeapi.Container) bool {
	return c.GetState() == runtimeapi.ContainerState_CONTAINER_RUNNING
}

// pods lists all pods by namespace and name, older ones of one name first.
func (c *client) pods(ctx context.Context) ([]pod, error) {
	sandboxes, err := c.runtime.ListPodSandbox(ctx, &runtimeapi.ListPodSandboxRequest{})
	if err != nil {
		return nil, err
	}
	containers, err := c.runtime.ListContainers(ctx, &runtimeapi.ListContainersRequest{})
	if err != nil {
		return nil, err
	}
	return join(sandboxes.GetItems(), containers.GetContainers()), nil
}

func join(sandboxes []*runtimeapi.PodSandbox, containers []*runtimeapi.Container) []pod {
	of := map[string][]*runtimeapi.Container{}
	for _, c := range containers {
		of[c.GetPodSandboxId()] = append(of[c.GetPodSandboxId()], c)
	}
	pods := make([]pod, len(sandboxes))
	for i, sandbox := range sandboxes {
		boots := of[sandbox.GetId()]
		slices.SortStableFunc(boots, func(a, b *runtimeapi.Container) int {
			return cmp.Compare(b.GetCreatedAt(), a.GetCreatedAt())
		})
		pods[i] = pod{sandbox, boots}
	}
	slices.SortStableFunc(pods, func(a, b pod) int {
		return cmp.Or(cmp.Compare(a.String(), b.String()), cmp.Compare(a.sandbox.GetCreatedAt(), b.sandbox.GetCreatedAt()))
	})
	return pods
}
