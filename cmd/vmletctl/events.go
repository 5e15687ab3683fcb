// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
)

// eventView is one message of a watch. Its JSON is for programs: keys are added, none changes.
type eventView struct {
	// Event is what happened, or "present" for a VM as it is, or "synced" once all that has happened so far was told.
	Event string `json:"event"`
	// Token is what --since goes on behind this message with.
	Token       string     `json:"token,omitempty"`
	At          *time.Time `json:"at,omitempty"`
	Namespace   string     `json:"namespace,omitempty"`
	Pod         string     `json:"pod,omitempty"`
	PodID       string     `json:"podID,omitempty"`
	ContainerID string     `json:"containerID,omitempty"`
	// State, Rebooting and Agents are those of a VM that is present.
	State     string   `json:"state,omitempty"`
	Rebooting bool     `json:"rebooting,omitempty"`
	Agents    []string `json:"agents,omitempty"`

	Subject  string `json:"subject,omitempty"`
	Reason   string `json:"reason,omitempty"`
	Message  string `json:"message,omitempty"`
	ExitCode *int32 `json:"exitCode,omitempty"` // of a VM that has exited
	Agent    string `json:"agent,omitempty"`
	BootID   string `json:"bootID,omitempty"`
}

func (a *app) eventsCommand() *cobra.Command {
	var follow bool
	var since string
	cmd := &cobra.Command{
		Use:   "events [POD]",
		Short: "Tell what happens to VMs",
		Long: `Prints a line for each VM as it is, and with -f one for everything that happens to it from
then on: states, reboots, agents that come and go, what is plugged, snapshots. With --since it
prints what has happened behind that token instead, which the key "token" of -o json holds; a
restart of vmlet ends all tokens. -o json prints one object a line.`,
		Example: `  vmletctl events
  vmletctl events -f web
  vmletctl events -f -o json | jq -r 'select(.event == "exited") | .pod'`,
		Args: cobra.MaximumNArgs(1),
		RunE: a.connected(func(ctx context.Context, c *client, args []string) error {
			req := &vmletv1.WatchRequest{SinceToken: since}
			if len(args) > 0 {
				t, err := c.find(ctx, args[0])
				switch {
				case err == nil:
					req.Vm = t.sandbox.GetId()
				case since == "":
					return err
				default: // it may be gone; vmlet knows it by what it was called
					req.Vm = args[0]
				}
			}
			return a.printEvents(ctx, c, req, follow)
		}),
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on with what happens")
	cmd.Flags().StringVar(&since, "since", "", "begin behind the message with this `TOKEN`")
	return cmd
}

func (a *app) printEvents(ctx context.Context, c *client, req *vmletv1.WatchRequest, follow bool) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.vms.Watch(ctx, req)
	if err != nil {
		return err
	}
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := a.printEvent(eventViewOf(m)); err != nil {
			return err
		}
		if m.GetSynced() != nil && !follow {
			return nil
		}
	}
}

// printEvent writes one message: a line, but for YAML.
func (a *app) printEvent(v eventView) error {
	switch a.output {
	case formatJSON:
		return json.NewEncoder(a.out).Encode(v)
	case formatYAML:
		text, err := yaml.Marshal(v)
		if err == nil {
			_, err = fmt.Fprintf(a.out, "---\n%s", text)
		}
		return err
	case formatTable:
	}
	if v.Event == "synced" {
		return nil
	}
	at, what := a.now(), v.Event
	if v.At != nil {
		at = *v.At
	}
	if v.Event == "present" {
		what = "is " + v.State
	}
	line := fmt.Sprintf("%s  %-24s  %-17s  %s", at.UTC().Format(time.RFC3339), v.Namespace+"/"+v.Pod, what, v.detail())
	_, err := fmt.Fprintln(a.out, strings.TrimRight(line, " "))
	return err
}

// detail is the rest of a line for people.
func (v eventView) detail() string {
	var words []string
	add := func(format, value string) {
		if value != "" {
			words = append(words, fmt.Sprintf(format, value))
		}
	}
	add("%s", v.Subject)
	if v.Rebooting {
		add("%s", "rebooting")
	}
	add("%s", v.Reason)
	if v.ExitCode != nil {
		words = append(words, fmt.Sprintf("code %d", *v.ExitCode))
	}
	add("%s", v.Message)
	add("%s", v.Agent)
	add("with %s", strings.Join(v.Agents, ", "))
	add("boot %s", v.BootID)
	return strings.Join(words, "  ")
}

func eventViewOf(m *vmletv1.WatchResponse) eventView {
	if e := m.GetEvent(); e != nil {
		at := time.Unix(0, e.GetAt()).UTC()
		v := eventView{
			Event: e.GetKind(), Token: m.GetToken(), At: &at, Namespace: e.GetNamespace(), Pod: e.GetPod(), PodID: e.GetPodSandboxId(),
			ContainerID: e.GetContainerId(), Subject: e.GetSubject(), Reason: e.GetReason(), Message: e.GetMessage(),
			Agent: e.GetAgent(), BootID: e.GetBootId(),
		}
		if v.Event == "exited" {
			code := e.GetExitCode()
			v.ExitCode = &code
		}
		return v
	}
	p := m.GetPresent()
	if p == nil {
		return eventView{Event: "synced", Token: m.GetToken()}
	}
	v := eventView{
		Event: "present", Token: m.GetToken(), Namespace: p.GetNamespace(), Pod: p.GetPod(), PodID: p.GetPodSandboxId(),
		ContainerID: p.GetContainerId(), State: strings.ToLower(strings.TrimPrefix(p.GetState().String(), "VM_STATE_")),
		Rebooting: p.GetRebooting(), Agents: p.GetAgents(), Reason: p.GetReason(), Message: p.GetMessage(), BootID: p.GetBootId(),
	}
	if p.GetState() == vmletv1.VMState_VM_STATE_EXITED {
		code := p.GetExitCode()
		v.ExitCode = &code
	}
	return v
}
