// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
)

// checkView is a finding. Its JSON is for programs: keys are added, none changes.
type checkView struct {
	Name    string `json:"name"`
	Level   string `json:"level"` // ok, warn, fail or unknown
	Summary string `json:"summary"`
	Mend    string `json:"mend,omitempty"`
}

var checkLevels = map[vmletv1.CheckLevel]string{
	vmletv1.CheckLevel_CHECK_LEVEL_UNSPECIFIED: "unknown",
	vmletv1.CheckLevel_CHECK_LEVEL_OK:          "ok",
	vmletv1.CheckLevel_CHECK_LEVEL_WARN:        "warn",
	vmletv1.CheckLevel_CHECK_LEVEL_FAIL:        "fail",
}

func (a *app) doctorCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "doctor",
		Short: "Check whether this node can run VMs, and say how to mend what is wrong",
		Long: `Has vmlet check whether this node can run VMs, and says how to mend what is wrong. It
changes nothing. Exits with 1 if anything fails; warnings do not count. Where vmlet does
not run, "vmlet doctor" makes the same checks.`,
		Example: `  vmletctl doctor
  vmletctl doctor -o json | jq '.[] | select(.level != "ok")'`,
		Args: cobra.NoArgs,
		RunE: a.connected(func(ctx context.Context, c *client, _ []string) error {
			resp, err := c.node.Doctor(ctx, &vmletv1.DoctorRequest{})
			if err != nil {
				return err
			}
			views := make([]checkView, len(resp.GetChecks()))
			failed := 0
			for i, found := range resp.GetChecks() {
				views[i] = checkView{found.GetName(), checkLevels[found.GetLevel()], found.GetSummary(), found.GetMend()}
				if found.GetLevel() == vmletv1.CheckLevel_CHECK_LEVEL_FAIL {
					failed++
				}
			}
			if err := a.printChecks(views); err != nil {
				return err
			}
			if failed > 0 {
				return fmt.Errorf("%d of %d checks failed", failed, len(views))
			}
			return nil
		}),
	}
}

func (a *app) printChecks(views []checkView) error {
	return a.print(views, func(w io.Writer) {
		for _, v := range views {
			row(w, v.Level, v.Name, v.Summary)
			if v.Mend != "" {
				fmt.Fprintf(w, "\t\tmend: %s\n", v.Mend)
			}
		}
	})
}
