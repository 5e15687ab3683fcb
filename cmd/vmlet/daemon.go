// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"google.golang.org/grpc"

	"github.com/vmlet/vmlet/pkg/config"
	"github.com/vmlet/vmlet/pkg/cri"
	"github.com/vmlet/vmlet/pkg/cri/arktos"
	"github.com/vmlet/vmlet/pkg/doctor"
	"github.com/vmlet/vmlet/pkg/lifecycle"
	"github.com/vmlet/vmlet/pkg/log"
	"github.com/vmlet/vmlet/pkg/server"
	"github.com/vmlet/vmlet/pkg/streaming"
	"github.com/vmlet/vmlet/pkg/version"
	"github.com/vmlet/vmlet/pkg/vm"
	"github.com/vmlet/vmlet/pkg/vmapi"
)

// daemon is the graph: adapters below, use cases on them, handlers on those, the server
// in front. It is built once, by hand, in the order of dependency.
type daemon struct {
	cfg      config.Config
	level    zap.AtomicLevel
	adapters *adapters
	svc      *lifecycle.Service
	doctor   *doctor.Doctor
	gate     *server.Gate
	server   *server.Server
	streams  *streaming.Server
}

// runDaemon runs vmlet until ctx ends. load reads the configuration anew for a reload.
func runDaemon(ctx context.Context, c config.Config, load func() (config.Config, error)) (err error) {
	logger, level, err := newLogger(c.Log)
	if err != nil {
		return err
	}
	defer func() { _ = logger.Sync() }() //nolint:errcheck // stderr is often no file, and then cannot be synced
	ctx = log.Into(ctx, logger)
	// From now on, since a SIGHUP that nobody listens for ends a process.
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	d, err := newDaemon(ctx, c, level)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.close()) }()
	return d.run(ctx, hangups, load)
}

func newDaemon(ctx context.Context, c config.Config, level zap.AtomicLevel) (_ *daemon, err error) {
	d := &daemon{cfg: c, level: level, gate: server.NewGate()}
	registry := newRegistry()
	if d.adapters, err = openAdapters(ctx, c, registry); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.close())
		}
	}()
	a := d.adapters
	d.svc = lifecycle.New(ctx, lifecycle.Config{
		Paths: nodePaths(c), LibvirtCgroups: a.libvirtCgroups, Defaults: defaultsOf(c), Gates: gatesOf(c), StatsInterval: c.Stats.Interval,
	}, lifecycle.Deps{
		Hypervisor: a.hypervisor, Guest: a.guest, Shares: a.shares, Network: a.network, Images: a.images, Disks: a.disks,
		Cgroups: a.cgroups, Consoles: a.consoles, Streams: a.consoles, Screens: a.hypervisor, Clock: wallClock{},
		Dial: (&net.Dialer{}).DialContext, AgentBinary: func() ([]byte, error) { return agentBinary(c.GuestAgent.Binary) },
		Store:   lifecycle.Store{Owner: a.store.Owner(), Sandboxes: a.store.Sandboxes(), Containers: a.store.Containers(), Disks: a.store.Disks()},
		Observe: observer(registry, "vmlet_operation_duration_seconds", "Operations on sandboxes, containers and images, by outcome."),
	})
	registry.MustRegister(states{d.svc.Sandboxes, d.svc.Containers})
	d.doctor = &doctor.Doctor{Config: c, Libvirt: hypervisor{a.hypervisor}, Network: a.network, Root: "/"}
	d.server, err = d.newServer(ctx, registry)
	return d, err
}

func (d *daemon) newServer(ctx context.Context, registry *prometheus.Registry) (_ *server.Server, err error) {
	d.streams, err = streaming.New(ctx, streaming.Config{
		Address: d.cfg.Stream.Address, TLSCert: d.cfg.Stream.TLSCert, TLSKey: d.cfg.Stream.TLSKey,
		IdleTimeout: d.cfg.Stream.IdleTimeout, Logger: log.From(ctx),
	}, d.svc)
	if err != nil {
		return nil, err
	}
	handlers, err := cri.New(cri.Config{
		Handlers: d.cfg.HandlerNames(), CgroupDriver: d.cfg.CgroupDriver, Streams: d.streams, Starting: d.gate.Err, Info: d.info,
	}, d.svc)
	if err != nil {
		return nil, err
	}
	return server.New(ctx, server.Config{
		Socket: d.cfg.Listen.Socket, Group: d.cfg.Listen.Group, MetricsAddress: d.cfg.Metrics.Address,
		Logger: log.From(ctx), Metrics: registry, Gate: d.gate,
		Ungated: slices.Concat(cri.AlwaysServed(), arktos.AlwaysServed(), vmapi.AlwaysServed()),
		Describe: func(req any) []zap.Field {
			return slices.Concat(cri.LogFields(req), arktos.LogFields(req), vmapi.LogFields(req))
		},
		CallsPerClient: d.cfg.Listen.CallsPerClient, StreamsPerClient: d.cfg.Listen.StreamsPerClient,
		Long: slices.Concat(cri.LongCalls(), arktos.LongCalls(), vmapi.LongCalls()),
	}, func(r grpc.ServiceRegistrar) {
		handlers.Register(r)
		arktos.New(handlers, d.svc).Register(r)
		vmapi.Register(r, vmapi.Deps{Images: d.svc, Disks: d.svc, VMs: d.svc, Checkpoints: d.svc, Doctor: d.doctor, Hypervisor: hypervisor{d.adapters.hypervisor}, Accel: d.svc.Accel})
	})
}

// info is what CRI's Status tells when asked to be verbose.
func (d *daemon) info() map[string]any {
	return map[string]any{
		"version": version.Version, "commit": version.Commit,
		"libvirtURI": d.cfg.Libvirt.URI, "root": d.cfg.Root, "state": d.cfg.State,
		"accelerator": d.svc.Accel(), "cgroupDriver": d.cfg.CgroupDriver, "libvirtCgroups": d.adapters.libvirtCgroups,
		"cniConfDir": d.cfg.CNI.ConfDir, "owner": d.adapters.store.Owner(),
	}
}

// run serves at once with the gate closed, so that clients see why they wait; recovers;
// opens the gate; and ends in the other direction: first no more calls, then no more
// background work, then the adapters (see close).
func (d *daemon) run(ctx context.Context, hangups <-chan os.Signal, load func() (config.Config, error)) error {
	logger := log.From(ctx)
	logger.Info("vmlet", zap.String("version", version.Version), zap.String("commit", version.Commit), zap.Int("pid", os.Getpid()))
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	var work sync.WaitGroup
	work.Go(func() { d.reloadOnHangup(background, hangups, load) })
	work.Go(func() { d.recoverAndOpen(background) })
	work.Go(func() {
		if err := d.streams.Run(ctx); err != nil {
			logger.Error("exec, attach and port-forward are not served any more", zap.Error(err))
		}
	})
	err := d.server.Run(ctx)
	stop()
	work.Wait()
	d.svc.Close()
	logger.Info("vmlet has ended; VMs run on")
	return err
}

// recoverAndOpen waits for libvirt, recovers, opens the gate and then follows events and
// samples until the daemon ends.
func (d *daemon) recoverAndOpen(ctx context.Context) {
	logger := log.From(ctx)
	begin := time.Now()
	for {
		err := d.recoverOnce(ctx)
		if err == nil {
			break
		}
		if ctx.Err() != nil {
			return
		}
		logger.Warn("not recovered yet", zap.Error(err))
		d.gate.Waiting(err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Second):
		}
	}
	d.gate.Open()
	logger.Info("recovered; calls are served", zap.Duration("took", time.Since(begin)))
	var loops sync.WaitGroup
	loops.Go(func() { d.preflight(ctx) })
	loops.Go(func() { d.svc.Run(ctx) })
	loops.Wait()
}

func (d *daemon) recoverOnce(ctx context.Context) error {
	awaitLibvirt(ctx, d.adapters.hypervisor)
	accel, why, err := d.adapters.hypervisor.Accelerator(ctx, d.cfg.Virtualization)
	if err != nil {
		return fmt.Errorf("choose the accelerator: %w", err)
	}
	if accel == vm.AccelTCG && d.cfg.Virtualization == "auto" {
		log.From(ctx).Warn("guests run under software emulation", zap.String("why", why))
	}
	return d.svc.Recover(ctx, accel, d.gate.Recovering)
}

// preflight logs what the doctor finds, worst words first in nobody's way.
func (d *daemon) preflight(ctx context.Context) {
	logger := log.From(ctx)
	for _, c := range d.doctor.Run(ctx) {
		fields := []zap.Field{zap.String("check", c.Name), zap.String("found", c.Summary)}
		switch c.Level {
		case vm.CheckOK:
			logger.Debug("preflight", fields...)
		case vm.CheckWarn:
			logger.Warn("preflight", append(fields, zap.String("mend", c.Mend))...)
		case vm.CheckFail:
			logger.Error("preflight", append(fields, zap.String("mend", c.Mend))...)
		}
	}
}

// reloadOnHangup takes over what a changed configuration may change while we run.
func (d *daemon) reloadOnHangup(ctx context.Context, hangups <-chan os.Signal, load func() (config.Config, error)) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-hangups:
			d.reload(ctx, load)
		}
	}
}

func (d *daemon) close() error {
	var errs []error
	if d.server != nil {
		d.server.Close()
	}
	if d.streams != nil {
		d.streams.Close()
	}
	if d.adapters != nil {
		errs = append(errs, d.adapters.close())
	}
	return errors.Join(errs...)
}

// wallClock is the time.
type wallClock struct{}

// Now implements lifecycle.Clock.
func (wallClock) Now() time.Time { return time.Now() }
