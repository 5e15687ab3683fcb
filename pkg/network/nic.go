// SPDX-License-Identifier: Apache-2.0

package network

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/plugins/pkg/ns"
	"golang.org/x/sys/unix"

	"github.com/vmlet/vmlet/pkg/revert"
	"github.com/vmlet/vmlet/pkg/vm"
)

// AttachNIC implements lifecycle.Network. It is Setup for one more interface in the namespace
// that is there: the same attachment file, ADD and closed interface, under another name.
func (n *Network) AttachNIC(ctx context.Context, req vm.NICRequest) (_ vm.NIC, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("attach %s to sandbox %s: %w", req.Spec.Name, req.Sandbox.SandboxID, err)
		}
	}()
	if err := checkNIC(req); err != nil {
		return vm.NIC{}, err
	}
	path := n.conf.Paths.SandboxNetNS(req.Sandbox.SandboxID)
	if err := findNetNS(path); err != nil {
		return vm.NIC{}, err
	}
	list, err := n.planNIC(req)
	if err != nil {
		return vm.NIC{}, err
	}
	others, err := n.attachments.nicsOf(req.Sandbox.SandboxID)
	if err != nil {
		return vm.NIC{}, err
	}
	a := attachment{Request: req.Sandbox, NIC: &req, Serial: 1, Config: list.Bytes}
	if len(others) > 0 {
		a.Serial = others[0].Serial + 1
	}

	rev := revert.New(ctx)
	defer rev.Fail(&err) //nolint:contextcheck // it has ctx since New
	if err := n.attachments.create(a); err != nil {
		return vm.NIC{}, err
	}
	// Before the ADD: a plugin that fails may have done half of its work. If DEL fails the attachment stays, for another try.
	rev.Add("NIC ADD", func(ctx context.Context) error { return n.detach(ctx, a, path) })
	result, err := n.add(ctx, a, path)
	if err != nil {
		return vm.NIC{}, err
	}
	nic, err := takeOver(ctx, a, path, result, TapName(req.Sandbox.SandboxID, req.Number))
	if err != nil {
		return vm.NIC{}, err
	}
	if err := asAsked(req.Spec, nic, list.Name); err != nil {
		return vm.NIC{}, err
	}
	rev.Success()
	return nic, nil
}

// PlanNIC implements lifecycle.Network.
func (n *Network) PlanNIC(_ context.Context, req vm.NICRequest) error {
	err := checkNICName(req.Spec.Name)
	if err == nil {
		err = checkAsk(req.Spec)
	}
	if err == nil {
		_, err = n.planNIC(req)
	}
	if err != nil {
		return fmt.Errorf("attach %s: %w", req.Spec.Name, err)
	}
	return nil
}

// planNIC finds the configuration that a NIC is attached by, if it can be.
func (n *Network) planNIC(req vm.NICRequest) (*libcni.NetworkConfigList, error) {
	list, err := n.configOf(req)
	if err != nil {
		return nil, err
	}
	if err := n.findPlugins(list); err != nil {
		return nil, err
	}
	return list, canAsk(req.Spec, list)
}

// NICConfig implements lifecycle.Network.
func (n *Network) NICConfig(_ context.Context, sandboxID, name string) ([]byte, error) {
	err := checkID(sandboxID)
	if err == nil {
		err = checkNICName(name)
	}
	var a attachment
	if err == nil {
		a, err = n.attachments.getNIC(sandboxID, name)
	}
	if err == nil && len(a.Config) == 0 {
		err = errdefs.ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("configuration of %s of sandbox %s: %w", name, sandboxID, err)
	}
	return a.Config, nil
}

// DetachNIC implements lifecycle.Network. DEL says what the ADD said, whatever req does beside
// the names.
func (n *Network) DetachNIC(ctx context.Context, req vm.NICRequest) error {
	id := req.Sandbox.SandboxID
	if err := n.detachNIC(ctx, id, req.Spec.Name); err != nil {
		return fmt.Errorf("detach %s from sandbox %s: %w", req.Spec.Name, id, err)
	}
	return nil
}

func (n *Network) detachNIC(ctx context.Context, id, name string) error {
	if err := checkID(id); err != nil {
		return err
	}
	if err := checkNICName(name); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	a, err := n.attachments.getNIC(id, name)
	if errdefs.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	netns, err := n.netnsForDEL(id)
	if err != nil {
		return err
	}
	return n.detach(ctx, a, netns)
}

// netnsForDEL is the path of a sandbox's namespace, "" if that is gone: what CNI calls it then.
func (n *Network) netnsForDEL(id string) (string, error) {
	path := n.conf.Paths.SandboxNetNS(id)
	err := findNetNS(path)
	if errdefs.IsNotFound(err) {
		return "", nil
	}
	return path, err
}

// detachAll detaches what was attached beside the first interface, the last one first.
func (n *Network) detachAll(ctx context.Context, id, netns string) error {
	all, err := n.attachments.nicsOf(id)
	if err != nil {
		return err
	}
	for _, a := range all {
		if err := n.detach(ctx, a, netns); err != nil {
			return fmt.Errorf("detach %s: %w", a.ifName(), err)
		}
	}
	return nil
}

// detach runs DEL, and forgets the attachment and the interface's rules. One whose attachment was cut short while it was
// written is only forgotten: no plugin has run for it.
func (n *Network) detach(ctx context.Context, a attachment, netns string) error {
	if len(a.Config) > 0 {
		if err := n.del(ctx, a, netns); err != nil {
			return err
		}
	}
	if netns != "" {
		if err := withNetNS(netns, func(netns ns.NetNS) error { return forgetRules(ctx, netns, a.ifName()) }); err != nil {
			return err
		}
	}
	return n.attachments.remove(a.fileOf())
}

// forgetRules removes the chains of a NIC: all at once, since the kernel waits for its readers with each transaction. Kernels before
// 6.16 have removed those of its devices with them.
func forgetRules(ctx context.Context, netns ns.NetNS, name string) error {
	p := port{NIC: vm.NIC{Name: name}}
	chains := []string{p.fromGuest(), p.ip6(), p.toGuest()} // from that which jumps on
	err := deleteChains(ctx, netns, chains...)
	if !isNoEntry(err) {
		return err
	}
	for _, chain := range chains {
		if err := deleteChains(ctx, netns, chain); err != nil && !isNoEntry(err) {
			return err
		}
	}
	return nil
}

func deleteChains(ctx context.Context, netns ns.NetNS, chains ...string) error {
	b := &nftBatch{}
	for _, chain := range chains {
		b.deleteChain(familyNetdev, chain)
	}
	return b.send(ctx, int(netns.Fd()))
}

// maxNICName is the kernel's: 16 bytes with the final zero.
const maxNICName = 15

// checkNICName refuses what cannot be the name of an interface beside those that are there. It becomes part of a file's name.
func checkNICName(name string) error {
	rest := strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-")
	switch {
	case name == "" || len(name) > maxNICName || rest != "" || name[0] < 'a' || name[0] > 'z':
		return fmt.Errorf("NIC name %q: give a letter, then letters, digits and -, %d in all at most: %w", name, maxNICName, errdefs.ErrInvalidArgument)
	case name == primaryNIC || name == "lo" || strings.HasPrefix(name, tapPrefix):
		return fmt.Errorf("NIC name %q is taken: %w", name, errdefs.ErrInvalidArgument)
	}
	return nil
}

func checkNIC(req vm.NICRequest) error {
	if err := checkRequest(req.Sandbox); err != nil {
		return err
	}
	if err := checkNICName(req.Spec.Name); err != nil {
		return err
	}
	if req.Number < 1 || req.Number > 99 {
		return fmt.Errorf("NIC number %d is not from 1 to 99: %w", req.Number, errdefs.ErrInvalidArgument)
	}
	return checkAsk(req.Wanted())
}

// getNIC reads the attachment of one NIC. NotFound if there is none. One that does not parse is returned with the names
// alone: no plugin has run for it.
func (s attachments) getNIC(id, name string) (attachment, error) {
	a, err := s.read(nicFile(id, name))
	if err != nil {
		return attachment{}, err
	}
	if a.NIC == nil || a.Request.SandboxID != id || a.NIC.Spec.Name != name {
		a = attachment{Request: vm.NetworkRequest{SandboxID: id}, NIC: &vm.NICRequest{Spec: vm.NICSpec{Name: name}}}
	}
	return a, nil
}

// nicsOf are the attachments of a sandbox beside its first, the last one first.
func (s attachments) nicsOf(id string) ([]attachment, error) {
	files, err := os.ReadDir(s.dir)
	if os.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look for attachments: %w", err)
	}
	var all []attachment
	for _, f := range files {
		name, is := strings.CutPrefix(filepath.Base(f.Name()), id+".")
		if !is || checkNICName(name) != nil {
			continue
		}
		a, err := s.getNIC(id, name)
		if err != nil {
			return nil, err
		}
		all = append(all, a)
	}
	slices.SortFunc(all, func(a, b attachment) int { return cmp.Compare(b.Serial, a.Serial) })
	return all, nil
}

func isNoEntry(err error) bool { return errors.Is(err, unix.ENOENT) }
