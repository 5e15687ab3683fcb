// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// podView is what is told of a pod. Its JSON is for programs: keys are added, none changes.
type podView struct {
	Name      string    `json:"name"`
	Namespace string    `json:"namespace"`
	Tenant    string    `json:"tenant,omitempty"`
	PodID     string    `json:"podID"`
	Ready     bool      `json:"ready"`
	CreatedAt time.Time `json:"createdAt"`
	IPs       []string  `json:"ips"`
	// Container is the boot that is shown, nil if there is none.
	Container *containerView `json:"container,omitempty"`
}

type containerView struct {
	ID         string     `json:"id"`
	Image      string     `json:"image"`
	ImageID    string     `json:"imageID"`
	State      string     `json:"state"` // Created, Running, Exited or Unknown
	Reason     string     `json:"reason,omitempty"`
	Message    string     `json:"message,omitempty"`
	ExitCode   *int32     `json:"exitCode,omitempty"` // of an exited one
	StartedAt  *time.Time `json:"startedAt,omitempty"`
	FinishedAt *time.Time `json:"finishedAt,omitempty"`
	LogPath    string     `json:"logPath,omitempty"`
}

// state is a few words for a table.
func (v podView) state() string {
	c := v.Container
	switch {
	case c == nil && v.Ready:
		return "NoVM"
	case c == nil:
		return "NotReady"
	case c.ExitCode != nil:
		return fmt.Sprintf("%s (%d %s)", c.State, *c.ExitCode, c.Reason)
	case !v.Ready:
		return c.State + " (pod not ready)"
	}
	return c.State
}

// view asks for all that is told of a pod.
func (c *client) view(ctx context.Context, t target) (podView, error) {
	resp, err := c.runtime.PodSandboxStatus(ctx, &runtimeapi.PodSandboxStatusRequest{PodSandboxId: t.sandbox.GetId()})
	if err != nil {
		return podView{}, err
	}
	v := viewOf(resp.GetStatus())
	if t.boot == nil {
		return v, nil
	}
	boot, err := c.runtime.ContainerStatus(ctx, &runtimeapi.ContainerStatusRequest{ContainerId: t.boot.GetId()})
	if err != nil {
		return podView{}, err
	}
	v.Container = containerViewOf(boot.GetStatus())
	return v, nil
}

// views is view for many. What is removed while it asks is left out.
func (c *client) views(ctx context.Context, pods []pod) ([]podView, error) {
	views := make([]podView, 0, len(pods))
	for _, p := range pods {
		v, err := c.view(ctx, target{p, p.container()})
		if status.Code(err) == codes.NotFound {
			continue
		}
		if err != nil {
			return nil, err
		}
		views = append(views, v)
	}
	return views, nil
}

func viewOf(s *runtimeapi.PodSandboxStatus) podView {
	v := podView{
		Name:      s.GetMetadata().GetName(),
		Namespace: s.GetMetadata().GetNamespace(),
		Tenant:    s.GetLabels()[labelTenant],
		PodID:     s.GetId(),
		Ready:     s.GetState() == runtimeapi.PodSandboxState_SANDBOX_READY,
		CreatedAt: time.Unix(0, s.GetCreatedAt()).UTC(),
		IPs:       []string{},
	}
	if ip := s.GetNetwork().GetIp(); ip != "" {
		v.IPs = append(v.IPs, ip)
	}
	for _, ip := range s.GetNetwork().GetAdditionalIps() {
		v.IPs = append(v.IPs, ip.GetIp())
	}
	return v
}

var states = map[runtimeapi.ContainerState]string{
	runtimeapi.ContainerState_CONTAINER_CREATED: "Created",
	runtimeapi.ContainerState_CONTAINER_RUNNING: "Running",
	runtimeapi.ContainerState_CONTAINER_EXITED:  "Exited",
	runtimeapi.ContainerState_CONTAINER_UNKNOWN: "Unknown",
}

func containerViewOf(s *runtimeapi.ContainerStatus) *containerView {
	v := &containerView{
		ID:         s.GetId(),
		Image:      s.GetImage().GetImage(),
		ImageID:    s.GetImageId(),
		State:      states[s.GetState()],
		Reason:     s.GetReason(),
		Message:    s.GetMessage(),
		StartedAt:  instant(s.GetStartedAt()),
		FinishedAt: instant(s.GetFinishedAt()),
		LogPath:    s.GetLogPath(),
	}
	if s.GetState() == runtimeapi.ContainerState_CONTAINER_EXITED {
		code := s.GetExitCode()
		v.ExitCode = &code
	}
	return v
}

// instant is a point in time of the CRI, nil for 0, which means that it has not come yet.
func instant(nanos int64) *time.Time {
	if nanos == 0 {
		return nil
	}
	t := time.Unix(0, nanos).UTC()
	return &t
}

// age is how long ago something was, in the one unit that tells most.
func age(now, then time.Time) string {
	d := max(now.Sub(then), 0)
	switch {
	case d < 2*time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}
