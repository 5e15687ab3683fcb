// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"

	"github.com/containernetworking/cni/libcni"
	"golang.org/x/sync/errgroup"
	virt "libvirt.org/go/libvirt"
	"libvirt.org/go/libvirtxml"

	"github.com/vmlet/vmlet/pkg/config"
	"github.com/vmlet/vmlet/pkg/paths"
	"github.com/vmlet/vmlet/pkg/vm"
	"github.com/vmlet/vmlet/tests/harness"
)

// floor starts and ends VM pods by straight-line code: the steps that a pod cannot do
// without, on the parts that vmlet uses, with no record, no lock, no undo and no RPC.
// Independent steps overlap. It is safe for concurrent use.
type floor struct {
	libvirt *virt.Connect
	events  *guestEvents
	cni     *libcni.CNIConfig
	list    *libcni.NetworkConfigList
	paths   paths.Node
	base    vm.Image
	// model is the domain of a pod of vmlet's, as libvirt has it.
	model libvirtxml.Domain
	uid   int
	gid   int
	steps *stepTimes
}

// floorPod is a pod of the floor's.
type floorPod struct {
	id     string
	nic    vm.NIC
	domain *virt.Domain
	group  cgroupLeaf
	// top is the file that the guest writes to since a snapshot, layers what is below it down to the image.
	top    string
	layers []vm.BackingFile
}

func (p *floorPod) uuid() string { return vm.UUIDFromID(p.id) }
func (p *floorPod) name() string { return "floor-" + p.id[:12] }

// newFloor prepares what a daemon would have at hand: a connection, the CNI configuration
// (the node's own), and folders.
func newFloor(node *harness.Node, base vm.Image) (*floor, error) {
	f := &floor{
		base: base, steps: newStepTimes(),
		paths: paths.Node{Root: filepath.Join(node.LibDir, "floor"), State: filepath.Join(node.RunDir, "floor")},
	}
	for _, dir := range []string{f.paths.Sandboxes(), f.paths.NetNS(), f.paths.CNICache()} {
		if err := os.MkdirAll(dir, 0o711); err != nil { //nolint:gosec // QEMU's user passes through
			return nil, err
		}
	}
	if err := f.lookUpQEMU(config.Default().QEMU); err != nil {
		return nil, err
	}
	var err error
	if f.list, err = libcni.LoadNetworkConf(node.CNIDir(), "test-"+filepath.Base(node.RunDir)); err != nil {
		return nil, fmt.Errorf("the node's CNI configuration: %w", err)
	}
	f.cni = libcni.NewCNIConfigWithCacheDir([]string{harness.Bin("cni")}, f.paths.CNICache(), nil)
	if err := startEventLoop(); err != nil {
		return nil, err
	}
	if f.libvirt, err = virt.NewConnect(harness.URI()); err != nil {
		return nil, err
	}
	if f.events, err = listen(f.libvirt); err != nil {
		return nil, errors.Join(err, f.close())
	}
	return f, nil
}

func (f *floor) close() error {
	if f.events != nil {
		f.events.close()
	}
	_, err := f.libvirt.Close()
	return err
}

func (f *floor) lookUpQEMU(q config.QEMU) error {
	u, err := user.Lookup(q.User)
	if err != nil {
		return err
	}
	g, err := user.LookupGroup(q.Group)
	if err != nil {
		return err
	}
	var uidErr, gidErr error
	f.uid, uidErr = strconv.Atoi(u.Uid)
	f.gid, gidErr = strconv.Atoi(g.Gid)
	return errors.Join(uidErr, gidErr)
}

// start runs a pod from nothing to a guest whose CPUs run. It leaves what it has done when
// it fails: the run is over then.
func (f *floor) start(ctx context.Context) (*floorPod, error) {
	p := &floorPod{id: newID()}
	if err := f.prepare(ctx, p); err != nil {
		return nil, err
	}
	text, err := f.domainXML(p)
	if err != nil {
		return nil, err
	}
	if err := f.steps.time("define", func() (err error) { p.domain, err = f.libvirt.DomainDefineXML(text); return err }); err != nil {
		return nil, err
	}
	if err := f.steps.time("create paused", func() error { return p.domain.CreateWithFlags(virt.DOMAIN_START_PAUSED) }); err != nil {
		return nil, err
	}
	var beside errgroup.Group
	beside.Go(func() error { return f.steps.time("place in cgroup", func() error { return p.group.place(p.name()) }) })
	beside.Go(func() error {
		return f.steps.time("tap and rules", func() error { return wire(f.paths.SandboxNetNS(p.id), p.nic) })
	})
	if err := beside.Wait(); err != nil {
		return nil, err
	}
	return p, f.steps.time("resume", p.domain.Resume)
}

// remove takes down what is left of a pod whose domain is not active.
func (f *floor) remove(ctx context.Context, p *floorPod) error {
	return errors.Join(
		p.domain.Undefine(),
		p.domain.Free(),
		f.detach(ctx, p.id),
		p.group.remove(),
		os.RemoveAll(f.paths.Sandbox(p.id)),
		os.Remove(filepath.Join(harness.LibvirtdDir(), "log/qemu", p.name()+".log")),
	)
}

func newID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}
