// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"reflect"
	"slices"
	"strings"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/vmlet/vmlet/pkg/config"
	"github.com/vmlet/vmlet/pkg/image"
	"github.com/vmlet/vmlet/pkg/lifecycle"
	"github.com/vmlet/vmlet/pkg/log"
	"github.com/vmlet/vmlet/pkg/vm"
)

func newLogger(c config.Log) (*zap.Logger, zap.AtomicLevel, error) {
	level, err := zap.ParseAtomicLevel(c.Level)
	if err != nil {
		return nil, level, err
	}
	cfg := zap.NewProductionConfig()
	cfg.Level, cfg.Encoding, cfg.Sampling = level, c.Format, nil
	cfg.EncoderConfig.EncodeTime = zapcore.RFC3339NanoTimeEncoder
	cfg.DisableStacktrace = true
	logger, err := cfg.Build()
	return logger, level, err
}

func defaultsOf(c config.Config) lifecycle.Defaults {
	d := c.Defaults
	return lifecycle.Defaults{
		VCPUs: d.VCPUs, MaxVCPUs: d.MaxVCPUs, MemoryHeadroom: int64(d.MemoryHeadroom), Memory: int64(d.Memory), MinimumMemory: int64(d.MinimumMemory), MachineType: d.Machine,
		CPUMode: d.CPU.Mode, CPUModel: d.CPU.Model, DiskBus: d.DiskBus, ErrorPolicy: d.DiskErrorPolicy, RNG: d.RNG,
		Watchdog: vm.Watchdog{Model: d.Watchdog.Model, Action: d.Watchdog.Action}, AgentChannel: d.AgentChannel,
		AgentTimeout: d.AgentTimeout, Video: vm.Video(d.Video), VNC: d.VNC,
	}
}

// gatesOf are the gates that are closed, by runtime handler.
func gatesOf(c config.Config) lifecycle.Gates {
	out := lifecycle.Gates{"": closedOf(c.Gates)}
	for _, h := range c.Handlers {
		out[h.Name] = closedOf(h.Gates.Over(c.Gates))
	}
	return out
}

func closedOf(g config.Gates) map[vm.Gate]bool {
	closed := map[vm.Gate]bool{}
	for key, gate := range g.ByKey() {
		if *gate == config.Closed {
			closed[vm.Gate(key)] = true
		}
	}
	return closed
}

func aliasesOf(c config.Config) []image.Alias {
	out := make([]image.Alias, len(c.Images.Aliases))
	for i, a := range c.Images.Aliases {
		out[i] = image.Alias{Pattern: a.Pattern, Name: a.Name}
	}
	return out
}

// reload takes over what may change while we run, and names what may not.
func (d *daemon) reload(ctx context.Context, load func() (config.Config, error)) {
	logger := log.From(ctx)
	next, err := load()
	if err != nil {
		logger.Error("configuration not reloaded; the old one stays", zap.Error(err))
		return
	}
	if err := d.adapters.images.SetAliases(aliasesOf(next)); err != nil {
		logger.Error("configuration not reloaded; the old one stays", zap.Error(err))
		return
	}
	if err := d.level.UnmarshalText([]byte(next.Log.Level)); err != nil {
		logger.Error("log.level not reloaded", zap.Error(err))
	}
	d.svc.SetDefaults(defaultsOf(next))
	d.svc.SetGates(gatesOf(next))
	fixed := unreloadable(d.cfg, next)
	d.cfg.Defaults, d.cfg.Log.Level = next.Defaults, next.Log.Level
	d.cfg.Images.Aliases, d.cfg.Gates = next.Images.Aliases, next.Gates
	if len(fixed) > 0 {
		logger.Warn("configuration reloaded, but these keys need a restart of vmlet", zap.Strings("keys", fixed))
		return
	}
	logger.Info("configuration reloaded")
}

// unreloadable names the top-level keys that differ and that a reload does not take over.
func unreloadable(now, next config.Config) []string {
	next.Defaults, next.Log.Level = now.Defaults, now.Log.Level
	next.Images.Aliases, next.Gates = now.Images.Aliases, now.Gates
	if slices.Equal(next.HandlerNames(), now.HandlerNames()) { // their gates were taken over
		next.Handlers = now.Handlers
	}
	var keys []string
	a, b := reflect.ValueOf(now), reflect.ValueOf(next)
	for i := range a.NumField() {
		if !reflect.DeepEqual(a.Field(i).Interface(), b.Field(i).Interface()) {
			key, _, _ := strings.Cut(a.Type().Field(i).Tag.Get("yaml"), ",")
			keys = append(keys, key)
		}
	}
	return keys
}
