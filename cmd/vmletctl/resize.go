// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
)

// sizeView is what is told of a resized VM. Its JSON is for programs: keys are added, none changes.
type sizeView struct {
	Pod        string       `json:"pod"`
	GuestCPUs  uint32       `json:"guestCPUs,omitempty"` // CPUs that the guest sees
	CPUs       sizePartView `json:"cpus"`
	Memory     sizePartView `json:"memory"` // bytes
	CpusetCPUs sizePartView `json:"cpusetCPUs"`
	CpusetMems sizePartView `json:"cpusetMems"`
	CPUShares  sizePartView `json:"cpuShares"`
}

// sizePartView is one part of it. Numbers are in decimal.
type sizePartView struct {
	Before    string `json:"before"`
	After     string `json:"after"`
	Requested string `json:"requested,omitempty"`
	// Outcome is applied, partly or next machine; "" for what was not asked for.
	Outcome string `json:"outcome,omitempty"`
	Detail  string `json:"detail,omitempty"`
}

func (a *app) resizeCommand() *cobra.Command {
	var cpus uint32
	var memory byteCount
	var set, nodes string
	var shares int64
	var wait time.Duration
	cmd := &cobra.Command{
		Use:   "resize POD",
		Short: "Give a VM other CPUs or other memory while it runs",
		Long: `Gives a pod's VM other CPUs, other memory, or another place among the host's CPUs, and says
what it has then. CPUs are added to a guest that runs, and memory is plugged and unplugged,
within the headroom that the machine was made with (annotations vmlet.io/max-vcpus and
vmlet.io/max-memory). Fewer CPUs are a quota. Exits with 1 where it was done in part only.`,
		Example: `  vmletctl resize web --cpus 4 --memory 2G
  vmletctl resize web --memory 1G --wait 1m   # a guest takes its time to give memory back
  vmletctl resize web --cpuset 2-3`,
		Args: cobra.ExactArgs(1),
		RunE: a.connected(func(ctx context.Context, c *client, args []string) error {
			if wait < 0 {
				return usageError{"vmletctl resize", errors.New("--wait must not be negative")}
			}
			t, err := c.find(ctx, args[0])
			if err != nil {
				return err
			}
			resp, err := c.vms.Resize(ctx, &vmletv1.ResizeRequest{
				Vm: t.sandbox.GetId(), Cpus: cpus, MemoryBytes: int64(memory), CpusetCpus: set, CpusetMems: nodes, CpuShares: shares,
				WaitMs: wait.Milliseconds(),
			})
			if err != nil {
				return err
			}
			v := sizeViewOf(t, resp)
			if err := a.print(v, v.table); err != nil {
				return err
			}
			return v.short()
		}),
	}
	cmd.Flags().Uint32Var(&cpus, "cpus", 0, "`CPUS` that the guest may use")
	cmd.Flags().Var(&memory, "memory", "RAM of the guest, as `SIZE`: 512M, 2G")
	cmd.Flags().StringVar(&set, "cpuset", "", "`CPUS` of the host that it may run on, such as 0-2,7")
	cmd.Flags().StringVar(&nodes, "memory-nodes", "", "memory `NODES` of the host that it may use")
	cmd.Flags().Int64Var(&shares, "cpu-shares", 0, "`WEIGHT` beside other VMs, 2 to 262144")
	cmd.Flags().DurationVar(&wait, "wait", 0, "`TIME` that the guest has to take or give back memory (default 30s)")
	return cmd
}

func sizeViewOf(t target, resp *vmletv1.ResizeResponse) sizeView {
	return sizeView{
		Pod: t.String(), GuestCPUs: resp.GetGuestCpus(), CPUs: numberView(resp.GetCpus()), Memory: numberView(resp.GetMemoryBytes()),
		CpusetCPUs: setView(resp.GetCpusetCpus()), CpusetMems: setView(resp.GetCpusetMems()), CPUShares: numberView(resp.GetCpuShares()),
	}
}

func numberView(n *vmletv1.ResizedNumber) sizePartView {
	v := sizePartView{
		Before: strconv.FormatInt(n.GetBefore(), 10), After: strconv.FormatInt(n.GetAfter(), 10),
		Outcome: outcomeWord(n.GetOutcome()), Detail: n.GetDetail(),
	}
	if n.GetRequested() != 0 {
		v.Requested = strconv.FormatInt(n.GetRequested(), 10)
	}
	return v
}

func setView(n *vmletv1.ResizedSet) sizePartView {
	return sizePartView{
		Before: n.GetBefore(), After: n.GetAfter(), Requested: n.GetRequested(), Outcome: outcomeWord(n.GetOutcome()), Detail: n.GetDetail(),
	}
}

func outcomeWord(o vmletv1.ResizeOutcome) string {
	if o == vmletv1.ResizeOutcome_RESIZE_OUTCOME_UNSPECIFIED {
		return ""
	}
	return word(o.String(), "RESIZE_OUTCOME_")
}

// parts are those that were asked for, by what people call them.
func (v sizeView) parts() (names []string, parts []sizePartView) {
	for _, p := range []struct {
		name  string
		part  sizePartView
		bytes bool
	}{
		{"cpus", v.CPUs, false}, {"memory", v.Memory, true}, {"cpuset", v.CpusetCPUs, false},
		{"memory-nodes", v.CpusetMems, false}, {"cpu-shares", v.CPUShares, false},
	} {
		if p.part.Outcome == "" {
			continue
		}
		if p.bytes {
			for _, text := range []*string{&p.part.Before, &p.part.After, &p.part.Requested} {
				n, err := strconv.ParseInt(*text, 10, 64)
				if err == nil {
					*text = size(n)
				}
			}
		}
		names, parts = append(names, p.name), append(parts, p.part)
	}
	return names, parts
}

func (v sizeView) table(w io.Writer) {
	row(w, "WHAT", "BEFORE", "AFTER", "ASKED", "OUTCOME", "DETAIL")
	names, parts := v.parts()
	for i, p := range parts {
		row(w, names[i], cmp.Or(p.Before, "-"), cmp.Or(p.After, "-"), p.Requested, p.Outcome, cmp.Or(p.Detail, "-"))
	}
}

// short is an error for a script where a part is not what was asked for.
func (v sizeView) short() error {
	names, parts := v.parts()
	for i, p := range parts {
		if p.Outcome == "partly" {
			return fmt.Errorf("%s: done in part only: %s", names[i], p.Detail)
		}
	}
	return nil
}
