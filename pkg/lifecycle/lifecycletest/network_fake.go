// SPDX-License-Identifier: Apache-2.0

package lifecycletest

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/lifecycle"
	"github.com/vmlet/vmlet/pkg/revert"
	"github.com/vmlet/vmlet/pkg/vm"
)

// Network is lifecycle.Network in memory. Every sandbox gets one NIC named eth0 with an
// IPv4 address that no other sandbox has. Taps are taken to be where Wire looks for them.
// It is safe for concurrent use.
type Network struct {
	mu       sync.Mutex
	attached map[string]*attachment
	calls    []string
	failures map[string][]error
	gates    map[string]chan struct{}
	addrs    int
	also     []netip.Prefix
	// forgotten: see Forget; own: see GiveOwn.
	forgotten, own bool
}

var _ lifecycle.Network = (*Network)(nil)

// attachment is what one sandbox holds. As in a real host the netns can be gone while
// the attachment, which a DEL has to free, is still known.
type attachment struct {
	network vm.Network
	netns   bool
	wired   int
	nics    []vm.NIC
	// configs are those that the NICs were attached by.
	configs map[string][]byte
}

// NewNetwork returns a network that holds nothing and is ready.
func NewNetwork() *Network {
	return &Network{
		attached: map[string]*attachment{},
		failures: map[string][]error{},
		gates:    map[string]chan struct{}{},
	}
}

// FailNext makes the next call of a method ("Setup", "Wire", ...) return err. Several calls
// of FailNext fail as many calls of the method. A Setup that fails so leaves nothing behind,
// unless err wraps revert.ErrIncomplete: then the sandbox is listed until its Teardown.
func (n *Network) FailNext(method string, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.failures[method] = append(n.failures[method], err)
}

// Block makes calls of a method wait, after Calls shows them, until release is called or
// their context ends. Calling release again does nothing.
func (n *Network) Block(method string) (release func()) {
	gate := make(chan struct{})
	n.mu.Lock()
	defer n.mu.Unlock()
	n.gates[method] = gate
	return sync.OnceFunc(func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		if n.gates[method] == gate {
			delete(n.gates, method)
		}
		close(gate)
	})
}

// LoseNetNS takes a sandbox's netns away, as a reboot of the host does; what CNI holds for
// the sandbox stays until Teardown.
func (n *Network) LoseNetNS(id string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if a := n.attached[id]; a != nil {
		a.netns = false
	}
}

// AddAddress gives each sandbox that is set up from now on this address too.
func (n *Network) AddAddress(prefix string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.also = append(n.also, netip.MustParsePrefix(prefix))
}

// GiveOwn has sandboxes that are set up from now on get addresses of the network's choice, whatever is asked for.
func (n *Network) GiveOwn(own bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.own = own
}

// Calls lists the calls so far as "Method sandboxID", or "Method" where there is no sandbox.
func (n *Network) Calls() []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.calls)
}

// Wired tells how many times a sandbox was wired since its Setup.
func (n *Network) Wired(id string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	if a := n.attached[id]; a != nil {
		return a.wired
	}
	return 0
}

// enter records the call, waits at the method's gate and takes its planned failure. On
// success the caller holds n.mu.
func (n *Network) enter(ctx context.Context, method, id string) error {
	n.mu.Lock()
	n.calls = append(n.calls, strings.TrimSpace(method+" "+id))
	gate := n.gates[method]
	n.mu.Unlock()
	if gate != nil {
		select {
		case <-gate:
		case <-ctx.Done():
		}
	}
	if ctx.Err() != nil {
		return fmt.Errorf("%s %s: %w", method, id, ctx.Err())
	}
	n.mu.Lock()
	if planned := n.failures[method]; len(planned) > 0 {
		n.failures[method] = planned[1:]
		n.mu.Unlock()
		return planned[0]
	}
	return nil
}

// Ready implements lifecycle.Network.
func (n *Network) Ready(ctx context.Context) error {
	if err := n.enter(ctx, "Ready", ""); err != nil {
		return err
	}
	n.mu.Unlock()
	return nil
}

// Setup implements lifecycle.Network.
func (n *Network) Setup(ctx context.Context, req vm.NetworkRequest) (vm.Network, error) {
	if req.SandboxID == "" {
		return vm.Network{}, fmt.Errorf("set up network: no sandbox ID: %w", errdefs.ErrInvalidArgument)
	}
	if err := n.enter(ctx, "Setup", req.SandboxID); err != nil {
		if errors.Is(err, revert.ErrIncomplete) {
			n.mu.Lock()
			n.attached[req.SandboxID] = &attachment{network: vm.Network{Request: req}, netns: true}
			n.mu.Unlock()
		}
		return vm.Network{}, err
	}
	defer n.mu.Unlock()
	if n.attached[req.SandboxID] != nil {
		return vm.Network{}, fmt.Errorf("set up network of %s: %w", req.SandboxID, errdefs.ErrAlreadyExists)
	}
	n.addrs++
	network := fakeNetwork(req, n.addrs)
	if req.MAC != "" {
		network.NICs[0].MAC = req.MAC
	}
	if n.own {
		req.IPs = nil
	}
	for i, ip := range req.IPs[:min(len(req.IPs), 1)] {
		if prefix, err := netip.ParsePrefix(ip); err == nil {
			network.NICs[0].IPs[i].Prefix = prefix
		} else if addr, err := netip.ParseAddr(ip); err == nil {
			network.NICs[0].IPs[i].Prefix = netip.PrefixFrom(addr, 16)
		}
	}
	for _, prefix := range n.also {
		network.NICs[0].IPs = append(network.NICs[0].IPs, vm.NICAddress{Prefix: prefix})
	}
	a := &attachment{network: network, netns: true, configs: map[string][]byte{}}
	n.attached[req.SandboxID] = a
	return a.network, nil
}

func fakeNetwork(req vm.NetworkRequest, nth int) vm.Network {
	sum := sha256.Sum256([]byte(req.SandboxID))
	mac := net.HardwareAddr{0x02, 0, sum[0], sum[1], sum[2], sum[3]}
	gateway := netip.AddrFrom4([4]byte{10, 88, 0, 1})
	addr := netip.AddrFrom4([4]byte{10, 88, byte((nth + 1) >> 8), byte(nth + 1)})
	return vm.Network{
		Request: req,
		NetNS:   "/run/fake/netns/" + req.SandboxID,
		NICs: []vm.NIC{{
			Name:   "eth0",
			Tap:    fmt.Sprintf("vml%x0", sum[:5]),
			MAC:    mac.String(),
			MTU:    1500,
			IPs:    []vm.NICAddress{{Prefix: netip.PrefixFrom(addr, 16), Gateway: gateway}},
			Routes: []vm.Route{{To: netip.MustParsePrefix("0.0.0.0/0"), Via: gateway}},
		}},
	}
}

// Check implements lifecycle.Network.
func (n *Network) Check(ctx context.Context, network vm.Network) error {
	return n.withNetNS(ctx, "Check", network, func(*attachment) {})
}

// Wire implements lifecycle.Network.
func (n *Network) Wire(ctx context.Context, network vm.Network) error {
	return n.withNetNS(ctx, "Wire", network, func(a *attachment) { a.wired++ })
}

// TapDown implements lifecycle.Network.
func (n *Network) TapDown(ctx context.Context, nic vm.NIC) error {
	if err := n.enter(ctx, "TapDown", nic.Tap); err != nil {
		return err
	}
	n.mu.Unlock()
	return nil
}

// Teardown implements lifecycle.Network.
func (n *Network) Teardown(ctx context.Context, req vm.NetworkRequest) error {
	if err := n.enter(ctx, "Teardown", req.SandboxID); err != nil {
		return err
	}
	defer n.mu.Unlock()
	delete(n.attached, req.SandboxID)
	return nil
}

// Stats implements lifecycle.Network. The counters are zero until the first Wire, then fixed.
func (n *Network) Stats(ctx context.Context, network vm.Network) (stats []vm.NICStats, err error) {
	err = n.withNetNS(ctx, "Stats", network, func(a *attachment) {
		for _, nic := range network.NICs {
			s := vm.NICStats{Name: nic.Name}
			if a.wired > 0 {
				s.RxBytes, s.TxBytes = 1000, 2000
			}
			stats = append(stats, s)
		}
	})
	return stats, err
}

// List implements lifecycle.Network.
func (n *Network) List(ctx context.Context) ([]vm.NetworkRequest, error) {
	if err := n.enter(ctx, "List", ""); err != nil {
		return nil, err
	}
	defer n.mu.Unlock()
	var requests []vm.NetworkRequest
	for _, a := range n.attached {
		requests = append(requests, a.network.Request)
	}
	slices.SortFunc(requests, func(a, b vm.NetworkRequest) int { return strings.Compare(a.SandboxID, b.SandboxID) })
	return requests, nil
}

// withNetNS runs do under the lock, or returns NotFound where the sandbox has no netns.
func (n *Network) withNetNS(ctx context.Context, method string, network vm.Network, do func(*attachment)) error {
	id := network.Request.SandboxID
	if err := n.enter(ctx, method, id); err != nil {
		return err
	}
	defer n.mu.Unlock()
	a := n.attached[id]
	if a == nil || !a.netns {
		return fmt.Errorf("network of %s: netns: %w", id, errdefs.ErrNotFound)
	}
	do(a)
	return nil
}

// Present implements lifecycle.Network.
func (n *Network) Present(ctx context.Context) (map[string]bool, error) {
	if err := n.enter(ctx, "Present", ""); err != nil {
		return nil, err
	}
	defer n.mu.Unlock()
	present := map[string]bool{}
	for id, a := range n.attached {
		if a.netns {
			present[id] = true
		}
	}
	return present, nil
}
