// SPDX-License-Identifier: Apache-2.0

package libvirt

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"runtime"

	"github.com/containerd/errdefs"
	virt "libvirt.org/go/libvirt"
	"libvirt.org/go/libvirtxml"

	"github.com/vmlet/vmlet/pkg/vm"
)

// Modes of virtualization, as the configuration names them.
const (
	modeAuto = "auto"
	modeKVM  = "kvm"
	modeTCG  = "tcg"
)

// hostFiles are the host's own words about kvm.
type hostFiles struct{ cpuinfo, kvm string }

var thisHost = hostFiles{cpuinfo: "/proc/cpuinfo", kvm: "/dev/kvm"}

// Accelerator chooses how guests' CPUs run. mode is "auto", "kvm" or "tcg"; auto is kvm
// where that works, else tcg with the reason why. kvm where it does not work is
// FailedPrecondition.
//
// A /dev/kvm that exists proves nothing: under a hypervisor that shows the CPU neither
// vmx nor svm, libvirt lists kvm and guests die in it. And where QEMU's user cannot open
// the device, libvirt probes QEMU anew at every start.
func (h *Hypervisor) Accelerator(ctx context.Context, mode string) (accel vm.Accel, why string, err error) {
	switch mode {
	case modeTCG:
		return vm.AccelTCG, "the configuration says so", nil
	case modeAuto, modeKVM:
	default:
		return "", "", fmt.Errorf("virtualization %q is none of %s, %s, %s: %w",
			mode, modeAuto, modeKVM, modeTCG, errdefs.ErrInvalidArgument)
	}
	unusable, err := h.kvmUnusable(ctx)
	switch {
	case err != nil:
		return "", "", fmt.Errorf("choose an accelerator: %w", err)
	case unusable == "":
		return vm.AccelKVM, "the CPU, libvirt and /dev/kvm allow it", nil
	case mode == modeKVM:
		return "", "", fmt.Errorf("virtualization kvm: %s: %w", unusable, errdefs.ErrFailedPrecondition)
	default:
		return vm.AccelTCG, "not kvm, since " + unusable, nil
	}
}

// kvmUnusable says why kvm cannot be used, or "".
func (h *Hypervisor) kvmUnusable(ctx context.Context) (string, error) {
	if why, err := cpuUnusable(h.host.cpuinfo, runtime.GOARCH); err != nil || why != "" {
		return why, err
	}
	if why, err := h.driverUnusable(ctx); err != nil || why != "" {
		return why, err
	}
	account, err := h.qemuAccount(ctx)
	if err != nil {
		return "", err
	}
	return account.unusable(h.host.kvm), nil
}

var virtualizationFlag = regexp.MustCompile(`(?m)^flags\s*:.*\b(vmx|svm)\b`)

// cpuUnusable looks for the CPU's own word that it can run guests, which only x86 has.
func cpuUnusable(cpuinfo, arch string) (string, error) {
	if arch != "amd64" {
		return "", nil
	}
	text, err := os.ReadFile(cpuinfo)
	if err != nil {
		return "", fmt.Errorf("read the CPU's flags: %w", err)
	}
	if !virtualizationFlag.Match(text) {
		return "the CPU shows neither vmx nor svm (" + cpuinfo + ")", nil
	}
	return "", nil
}

// driverUnusable asks libvirt whether it would run a domain of type kvm.
func (h *Hypervisor) driverUnusable(ctx context.Context) (string, error) {
	return call(ctx, h.domains, "ask whether libvirt can use kvm", "", func(s *session) (string, error) {
		_, err := s.GetDomainCapabilities("", "x86_64", "q35", "kvm", 0)
		if lerr, ok := errors.AsType[virt.Error](err); ok && errdefs.IsInvalidArgument(classify(err)) {
			return "libvirt cannot: " + lerr.Message, nil
		}
		return "", err
	})
}

// qemuAccount finds the account that QEMU runs as: it is the DAC base label.
func (h *Hypervisor) qemuAccount(ctx context.Context) (account, error) {
	return call(ctx, h.domains, "ask for QEMU's account", "", func(s *session) (account, error) {
		text, err := s.GetCapabilities()
		if err != nil {
			return account{}, err
		}
		var caps libvirtxml.Caps
		if err := caps.Unmarshal(text); err != nil {
			return account{}, fmt.Errorf("parse libvirt's capabilities: %w", err)
		}
		for _, model := range caps.Host.SecModel {
			for _, label := range model.Labels {
				if model.Name == "dac" && label.Type == "kvm" {
					return parseAccount(label.Value)
				}
			}
		}
		// Without the DAC driver QEMU keeps libvirtd's own account.
		return account{}, nil
	})
}
