// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"slices"
	"testing"

	"google.golang.org/grpc/codes"

	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
)

// PowerOff implements vmletv1.VMServiceServer.
func (v vms) PowerOff(_ context.Context, req *vmletv1.PowerOffRequest) (*vmletv1.PowerOffResponse, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.note("PowerOff %s %s within %d ms", req.GetVm(), req.GetMode(), req.GetWaitMs())
	return &vmletv1.PowerOffResponse{
		Policy: vmletv1.PowerOffPolicy_POWER_OFF_POLICY_HELD, Forced: req.GetMode() == vmletv1.PowerOffMode_POWER_OFF_MODE_FORCE,
	}, nil
}

// PowerOn implements vmletv1.VMServiceServer.
func (v vms) PowerOn(_ context.Context, req *vmletv1.PowerOnRequest) (*vmletv1.PowerOnResponse, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.note("PowerOn %s paused=%t", req.GetVm(), req.GetPaused())
	return &vmletv1.PowerOnResponse{}, nil
}

func TestPower(t *testing.T) {
	w := newWorld(t)
	w.addPods("")
	for file, args := range map[string][]string{
		"power-off.txt":  {"power", "off", "web", "--wait", "1500ms"},
		"power-off.json": {"power", "off", "web", "--mode", "force", "-o", "json"},
		"power-on.txt":   {"power", "on", "web", "--paused"},
	} {
		got := w.ctl(t, args...)
		got.wantOK(t)
		golden(t, file, got.stdout)
	}
	w.ctl(t, "power", "off", "web", "--mode", "guest-then-force").wantOK(t)
	w.ctl(t, "power", "on", "web").wantOK(t)
	calls := w.called()
	for _, want := range []string{
		"PowerOff " + webID + " POWER_OFF_MODE_GUEST within 1500 ms", "PowerOff " + webID + " POWER_OFF_MODE_FORCE within 0 ms",
		"PowerOff " + webID + " POWER_OFF_MODE_GUEST_THEN_FORCE within 0 ms",
		"PowerOn " + webID + " paused=true", "PowerOn " + webID + " paused=false",
	} {
		if !slices.Contains(calls, want) {
			t.Errorf("called %q, not %q", calls, want)
		}
	}
}

func TestPowerThatFails(t *testing.T) {
	w := newWorld(t)
	w.addPods("")
	w.fail("PowerOff", codes.DeadlineExceeded, "the guest has not powered off in time")
	w.ctl(t, "power", "off", "web").wantError(t, exitFailed, "not powered off in time")
	w.ctl(t, "power", "off", "--mode", "kick", "web").wantError(t, exitUsage, `"kick" is neither guest, guest-then-force nor force`)
	w.ctl(t, "power", "off", "--wait", "-1s", "web").wantError(t, exitUsage, "must not be negative")
	w.ctl(t, "power", "on").wantError(t, exitUsage, "vmletctl power on --help")
	w.ctl(t, "power", "offf").wantError(t, exitUsage, "did you mean off")
}

func TestSnapshotQuiesce(t *testing.T) {
	w := newWorld(t)
	w.addPods("")
	w.ctl(t, "snapshot", "create", "--quiesce", "web", "whole").wantOK(t)
	if want := "CreateSnapshot " + webID + ` whole "" memory=false quiesced`; !slices.Contains(w.called(), want) {
		t.Errorf("called %q, not %q", w.called(), want)
	}
	if v := snapshotViewOf(&vmletv1.Snapshot{Consistency: vmletv1.SnapshotConsistency_SNAPSHOT_CONSISTENCY_FILE_SYSTEM}); v.Consistency != "file-system" {
		t.Errorf("it is told as %q", v.Consistency)
	}
}
