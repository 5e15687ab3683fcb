// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vmlet/vmlet/pkg/config"
	"github.com/vmlet/vmlet/pkg/vm"
)

func TestUnreloadableNamesWhatNeedsARestart(t *testing.T) {
	now := config.Default()
	next := now
	next.Defaults.VCPUs++
	next.Log.Level = "debug"
	next.Images.Aliases = []config.Alias{{Pattern: "a", Name: "b"}}
	next.Gates.Console = config.Closed
	next.Handlers = []config.Handler{{Name: "vm"}, {Name: "vmlet", Gates: config.Gates{Snapshots: config.Closed}}}
	if keys := unreloadable(now, next); len(keys) != 0 {
		t.Errorf("%v need a restart, but they are taken over", keys)
	}
	next.Handlers = next.Handlers[:1]
	next.Root, next.Log.Format, next.Images.MaxVirtualSize = "/other", "console", next.Images.MaxVirtualSize+1
	if keys, want := unreloadable(now, next), []string{"root", "images", "log", "runtimeHandlers"}; !slices.Equal(keys, want) {
		t.Errorf("keys = %v, want %v", keys, want)
	}
}

func TestDefaultsOfTakesEveryDefault(t *testing.T) {
	c := config.Default()
	c.Defaults = config.Defaults{
		VCPUs: 3, Memory: config.Size(5 * vm.GiB), MinimumMemory: config.Size(vm.GiB), Machine: "pc-q35-7.2",
		CPU: config.CPU{Mode: "custom", Model: "Nehalem"}, DiskBus: "scsi", DiskErrorPolicy: "stop", RNG: true,
		Watchdog: config.Watchdog{Model: "itco", Action: "reset"}, AgentChannel: true, AgentTimeout: time.Minute,
	}
	d := defaultsOf(c)
	if d.VCPUs != 3 || d.Memory != 5*vm.GiB || d.MinimumMemory != vm.GiB || d.MachineType != "pc-q35-7.2" ||
		d.CPUMode != "custom" || d.CPUModel != "Nehalem" || d.DiskBus != "scsi" || d.ErrorPolicy != "stop" || !d.RNG ||
		d.Watchdog != (vm.Watchdog{Model: "itco", Action: "reset"}) || !d.AgentChannel || d.AgentTimeout != time.Minute {
		t.Errorf("defaults = %+v", d)
	}
}

func TestEveryGateHasAKey(t *testing.T) {
	var c config.Config
	c.Handlers = []config.Handler{{Name: "x", Gates: config.Gates{Console: config.Open}}}
	for _, gate := range c.Gates.ByKey() {
		*gate = config.Closed
	}
	gates := gatesOf(c)
	for _, gate := range vm.Gates() {
		if !gates[""][gate] || gates["x"][gate] == (gate == vm.GateConsole) {
			t.Errorf("%s: closed for %v", gate, gates)
		}
	}
	if len(gates[""]) != len(vm.Gates()) {
		t.Errorf("keys without a gate: %v", gates)
	}
}

func TestTheLogLevelCanBeChanged(t *testing.T) {
	logger, level, err := newLogger(config.Log{Level: "warn", Format: "json"})
	if err != nil {
		t.Fatal(err)
	}
	if logger.Core().Enabled(level.Level()-1) || !logger.Core().Enabled(level.Level()) {
		t.Error("the level is not that of the configuration")
	}
	if err := level.UnmarshalText([]byte("debug")); err != nil {
		t.Fatal(err)
	}
	if !logger.Core().Enabled(level.Level()) || level.String() != "debug" {
		t.Errorf("level is %s", level)
	}
}

// run runs the command line and returns what it prints.
func run(args ...string) (string, error) {
	var out bytes.Buffer
	cmd := rootCommand()
	cmd.SetArgs(args)
	cmd.SetOut(&out)
	cmd.SetErr(&out)
	err := cmd.Execute()
	return out.String(), err
}

func TestTheDefaultConfigurationIsRight(t *testing.T) {
	text, err := run("config", "default")
	if err != nil {
		t.Fatal(err)
	}
	o := parse(t, text)
	if out, err := run("config", "check", o.file); err != nil || !strings.Contains(out, "is right") {
		t.Errorf("%s, %v", out, err)
	}
}

func TestABadCommandLineIsAnError(t *testing.T) {
	for _, args := range [][]string{{"no-such-command"}, {"--no-such-flag"}, {"config", "check"}, {"config", "check", "/nonexistent"}, {"doctor", "--log-level", "loud"}} {
		if out, err := run(args...); err == nil {
			t.Errorf("vmlet %v: no error, but %q", args, out)
		}
	}
}
