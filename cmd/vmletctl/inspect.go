// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// inspection is all that vmlet tells of a pod. Its JSON is for programs: keys are added,
// none changes.
type inspection struct {
	podView

	// Sandbox and Containers are the CRI's statuses as they are, newest container first,
	// each with what vmlet adds to it.
	Sandbox    detail   `json:"sandbox"`
	Containers []detail `json:"containers"`
}

type detail struct {
	Status json.RawMessage `json:"status"`
	Info   json.RawMessage `json:"info,omitempty"`
}

func (a *app) inspectCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "inspect POD",
		Short: "Show all about a pod and its VM",
		Long: `Shows a pod, its VM and its containers. With -o json or yaml all that vmlet tells of them,
annotations and so user-data included.`,
		Example: `  vmletctl inspect web
  vmletctl inspect web -o json | jq -r .ips[0]`,
		Args: cobra.ExactArgs(1),
		RunE: a.connected(func(ctx context.Context, c *client, args []string) error {
			t, err := c.find(ctx, args[0])
			if err != nil {
				return err
			}
			seen, err := c.inspect(ctx, t)
			if err != nil {
				return err
			}
			return a.print(seen, func(w io.Writer) { seen.table(w, a.now()) })
		}),
	}
}

func (c *client) inspect(ctx context.Context, t target) (inspection, error) {
	resp, err := c.runtime.PodSandboxStatus(ctx, &runtimeapi.PodSandboxStatusRequest{PodSandboxId: t.sandbox.GetId(), Verbose: true})
	if err != nil {
		return inspection{}, err
	}
	seen := inspection{podView: viewOf(resp.GetStatus()), Containers: []detail{}}
	if seen.Sandbox, err = detailOf(resp.GetStatus(), resp.GetInfo()); err != nil {
		return inspection{}, err
	}
	for _, boot := range t.containers {
		resp, err := c.runtime.ContainerStatus(ctx, &runtimeapi.ContainerStatusRequest{ContainerId: boot.GetId(), Verbose: true})
		if err != nil {
			return inspection{}, err
		}
		d, err := detailOf(resp.GetStatus(), resp.GetInfo())
		if err != nil {
			return inspection{}, err
		}
		seen.Containers = append(seen.Containers, d)
		if boot == t.boot {
			seen.Container = containerViewOf(resp.GetStatus())
		}
	}
	return seen, nil
}

// detailOf takes the key "info" of a verbose answer, which is JSON where vmlet writes it.
func detailOf(status proto.Message, info map[string]string) (detail, error) {
	// With zeros: a state that is left out is READY, which nobody knows.
	text, err := protojson.MarshalOptions{EmitDefaultValues: true}.Marshal(status)
	if err != nil {
		return detail{}, err
	}
	d := detail{Status: text}
	if extra := info["info"]; json.Valid([]byte(extra)) {
		d.Info = json.RawMessage(extra)
	}
	return d, nil
}

// machine is what vmlet adds to the status of a sandbox, as far as it is shown to people.
type machine struct {
	Domain   string `json:"domain"`
	UUID     string `json:"uuid"`
	Hostname string `json:"hostname"`
	NICs     []struct {
		Name string `json:"name"`
		MAC  string `json:"mac"`
	} `json:"nics"`
	Attached []struct {
		Name   string `json:"name"`
		PortID string `json:"portID"`
		Subnet string `json:"subnet"`
		VPC    string `json:"vpc"`
	} `json:"attached"`
	Tenant  string            `json:"tenant"`
	CNIArgs map[string]string `json:"cniArgs"`
	Disks   []struct {
		Path string `json:"path"`
	} `json:"disks"`
}

func (i inspection) table(w io.Writer, now time.Time) {
	line := func(key, value string) {
		if value != "" {
			fmt.Fprintf(w, "%s:\t%s\n", key, value)
		}
	}
	line("Name", i.Name)
	line("Namespace", i.Namespace)
	line("Pod", i.PodID)
	line("State", i.state())
	line("Age", age(now, i.CreatedAt))
	line("IP", strings.Join(i.IPs, ", "))
	if c := i.Container; c != nil {
		line("Message", c.Message)
		line("Container", c.ID)
		line("Image", c.Image)
		line("Image ID", c.ImageID)
		line("Log", c.LogPath)
	}
	var m machine
	if json.Unmarshal(i.Sandbox.Info, &m) != nil {
		return // another runtime's: there is no more to show
	}
	line("Hostname", m.Hostname)
	line("Domain", m.Domain)
	line("UUID", m.UUID)
	line("Tenant", m.Tenant)
	for _, key := range slices.Sorted(maps.Keys(m.CNIArgs)) {
		line("CNI argument", key+"="+m.CNIArgs[key])
	}
	for _, nic := range m.NICs {
		words := []string{nic.Name + " " + nic.MAC}
		for _, asked := range m.Attached {
			if asked.Name != nic.Name {
				continue
			}
			for _, word := range [][2]string{{"port", asked.PortID}, {"subnet", asked.Subnet}, {"VPC", asked.VPC}} {
				if word[1] != "" {
					words = append(words, word[0]+" "+word[1])
				}
			}
		}
		line("NIC", strings.Join(words, ", "))
	}
	for _, disk := range m.Disks {
		line("Disk", disk.Path)
	}
}
