// SPDX-License-Identifier: Apache-2.0

//go:build integration

package integration

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	arktosv1alpha2 "github.com/vmlet/vmlet/proto/arktos/v1alpha2"
	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
	"github.com/vmlet/vmlet/tests/harness"
)

// arktosGuest is a VM that runtime.v1 has made, and the Arktos node agent drives.
type arktosGuest struct {
	*harness.Running

	t     *testing.T
	node  *harness.Node
	agent nodeAgent
}

// TestArktosCallsInAGuest: what the node agent asks for is seen in one guest, beside what is asked by the other APIs.
func TestArktosCallsInAGuest(t *testing.T) {
	node := harness.StartNode(t)
	g := arktosGuest{node.Run(harness.Pod{Name: "guest"}), t, node, newNodeAgent(t, node)}
	g.WaitReady()
	for _, test := range []struct {
		name string
		do   func(arktosGuest)
	}{
		{"exec", arktosGuest.exec}, {"a terminal", arktosGuest.terminal}, {"the console", arktosGuest.console}, {"ports", arktosGuest.ports},
		{"a rotated log", arktosGuest.rotate}, {"reboots", arktosGuest.reboots}, {"all APIs at once", arktosGuest.atOnce},
	} {
		t.Run(test.name, func(t *testing.T) { test.do(arktosGuest{g.Running, t, node, g.agent}) })
	}
}

func (g arktosGuest) exec() {
	resp, err := g.agent.Exec(g.t.Context(), &arktosv1alpha2.ExecRequest{
		ContainerId: g.ContainerID, Cmd: []string{"sh", "-c", "cat; cat /proc/sys/kernel/random/boot_id >&2; exit 9"}, Stdin: true, Stdout: true, Stderr: true,
	})
	if err != nil {
		g.t.Fatal(err)
	}
	var out, errs bytes.Buffer
	input := bytes.Repeat([]byte("any byte \x00\xff\r\n"), 10<<10)
	session, err := harness.Connect(g.t.Context(), resp.GetUrl(), harness.Streams{Stdin: bytes.NewReader(input), Stdout: &out, Stderr: &errs})
	if err != nil {
		g.t.Fatal(err)
	}
	defer session.Disconnect()
	code, err := session.Wait()
	if err != nil || code != 9 || !bytes.Equal(out.Bytes(), input) || strings.TrimSpace(errs.String()) != g.BootID() {
		g.t.Errorf("exit code %d, %v; %d bytes came back of %d; stderr %q", code, err, out.Len(), len(input), &errs)
	}
}

func (g arktosGuest) terminal() {
	resp, err := g.agent.Exec(g.t.Context(), &arktosv1alpha2.ExecRequest{ContainerId: g.ContainerID, Cmd: []string{"sh"}, Tty: true, Stdin: true, Stdout: true})
	if err != nil {
		g.t.Fatal(err)
	}
	keyboard, screen := newKeyboard(), &screen{}
	session, err := harness.Connect(g.t.Context(), resp.GetUrl(), harness.Streams{Stdin: keyboard, Stdout: screen, TTY: true})
	if err != nil {
		g.t.Fatal(err)
	}
	defer session.Disconnect()
	if err := session.Resize(132, 50); err != nil {
		g.t.Fatal(err)
	}
	g.node.Eventually(time.Minute, func() error {
		keyboard.Type("stty size\n")
		time.Sleep(200 * time.Millisecond)
		return screen.has("50 132")
	})
	keyboard.Type("exit $((10+1))\n")
	if code, err := session.Wait(); err != nil || code != 11 {
		g.t.Errorf("exit code %d, %v; want 11; the screen: %q", code, err, screen)
	}
}

// console attaches as the node agent does to a VM: with a terminal, and without a word of stdout.
func (g arktosGuest) console() {
	resp, err := g.agent.Attach(g.t.Context(), &arktosv1alpha2.AttachRequest{ContainerId: g.ContainerID, Stdin: true, Tty: true})
	if err != nil {
		g.t.Fatal(err)
	}
	keyboard, screen := newKeyboard(), &screen{}
	session, err := harness.Connect(g.t.Context(), resp.GetUrl(), harness.Streams{Stdin: keyboard, Stdout: screen, TTY: true})
	if err != nil {
		g.t.Fatal(err)
	}
	defer session.Disconnect()
	g.node.Eventually(time.Minute, func() error {
		keyboard.Type("\necho answer-$((40+2))\n")
		time.Sleep(500 * time.Millisecond)
		return screen.has("answer-42")
	})
	g.WaitLog("answer-42")
}

func (g arktosGuest) ports() {
	resp, err := g.agent.PortForward(g.t.Context(), &arktosv1alpha2.PortForwardRequest{PodSandboxId: g.SandboxID, Port: []int32{80, 7008}})
	if err != nil {
		g.t.Fatal(err)
	}
	forward, err := harness.ConnectForward(g.t.Context(), resp.GetUrl())
	if err != nil {
		g.t.Fatal(err)
	}
	defer forward.Close()
	if got, err := converse(forward, 80, []byte("GET /boot-id HTTP/1.0\r\n\r\n")); err != nil || !bytes.Contains(got, []byte(g.BootID())) {
		g.t.Errorf("%q, %v", got, err)
	}
	g.Exec("sh", "-c", "nc -ll -p 7008 -e cat </dev/null >/dev/null 2>&1 &")
	g.node.Eventually(time.Minute, func() error { return echo(forward, 7008, bytes.Repeat([]byte("there and back "), 10<<10)) })
}

// rotate has the log go on in another file, and the rotated one end.
func (g arktosGuest) rotate() {
	path := g.LogPath()
	if err := os.Rename(path, path+".1"); err != nil {
		g.t.Fatal(err)
	}
	if _, err := g.agent.ReopenContainerLog(g.t.Context(), &arktosv1alpha2.ReopenContainerLogRequest{ContainerId: g.ContainerID}); err != nil {
		g.t.Fatal(err)
	}
	g.Exec("sh", "-c", "echo after-the-rotation >/dev/console")
	g.WaitLog("after-the-rotation")
	old, err := os.ReadFile(path + ".1")
	if err != nil || bytes.Contains(old, []byte("after-the-rotation")) || !bytes.Contains(old, []byte("READY")) {
		g.t.Errorf("the rotated log ends with %q, %v", old[max(0, len(old)-200):], err)
	}
}

// reboots asks by each flag, and with a delay. The container runs throughout.
func (g arktosGuest) reboots() {
	started := g.Status().GetStartedAt()
	for _, spec := range []*arktosv1alpha2.VmRebootSpec{{DomainRebootFlag: 1}, {DomainRebootFlag: 2, DelayInSeconds: 2}, {DomainRebootFlag: 3}} {
		boot, qemu, begin := g.BootID(), g.QEMU(), time.Now()
		if err := g.agent.reboot(g.t.Context(), g.ContainerID, spec); err != nil {
			g.t.Fatalf("%v: %v", spec, err)
		}
		if now := g.BootID(); now == boot {
			g.t.Errorf("%v: the guest is in boot %s as before", spec, now)
		}
		if took := time.Since(begin); took < time.Duration(spec.GetDelayInSeconds())*time.Second {
			g.t.Errorf("%v: it took %s", spec, took)
		}
		if another := g.QEMU() != qemu; another != (spec.GetDomainRebootFlag() == 1) {
			g.t.Errorf("%v: another QEMU, as only ACPI's button leads to: %v", spec, another)
		}
		if st := g.Status(); st.GetState() != runtimeapi.ContainerState_CONTAINER_RUNNING || st.GetStartedAt() != started {
			g.t.Errorf("%v: the container is %s, started at %d, was at %d", spec, st.GetState(), st.GetStartedAt(), started)
		}
		g.Exec("true") // its agent is up: the next way may be the agent's
	}
}

// atOnce has three APIs drive the VM at the same time. None of them disturbs what another one does.
func (g arktosGuest) atOnce() {
	const rounds = 3
	boot := g.BootID()
	group, ctx := errgroup.WithContext(g.t.Context())
	for what, do := range map[string]func(context.Context, int) error{
		"NICs by the node agent": func(ctx context.Context, _ int) error {
			device := &arktosv1alpha2.DeviceAttachDetachRequest{PodSandboxID: "guest", Nic: &arktosv1alpha2.NicSpec{Name: "eth1", PortId: "p1"}}
			if _, err := g.agent.AttachNetworkInterface(ctx, device); err != nil {
				return err
			}
			_, err := g.agent.DetachNetworkInterface(ctx, device)
			return err
		},
		"NICs by vmlet.v1": func(ctx context.Context, _ int) error {
			if _, err := g.node.VMs.AttachNIC(ctx, &vmletv1.AttachNICRequest{Vm: g.SandboxID, Name: "net2"}); err != nil {
				return err
			}
			_, err := g.node.VMs.DetachNIC(ctx, &vmletv1.DetachNICRequest{Vm: g.SandboxID, Name: "net2"})
			return err
		},
		"commands by runtime.v1": func(ctx context.Context, _ int) error {
			got, err := g.TryExec(ctx, "cat", "/proc/sys/kernel/random/boot_id")
			if err == nil && got != boot {
				return fmt.Errorf("the guest is in boot %s, was in %s", got, boot)
			}
			return err
		},
		"limits by the node agent": func(ctx context.Context, i int) error {
			_, err := g.agent.UpdateContainerResources(ctx, &arktosv1alpha2.UpdateContainerResourcesRequest{
				ContainerId: g.ContainerID, Linux: &arktosv1alpha2.LinuxContainerResources{CpuShares: int64(512 + i)},
			})
			return err
		},
		"states by all": func(ctx context.Context, _ int) error {
			theirs, err := g.agent.ContainerStatus(ctx, &arktosv1alpha2.ContainerStatusRequest{ContainerId: g.ContainerID})
			if err != nil {
				return err
			}
			pod, err := g.agent.PodSandboxStatus(ctx, &arktosv1alpha2.PodSandboxStatusRequest{PodSandboxId: g.SandboxID})
			if err != nil {
				return err
			}
			for _, n := range pod.GetStatus().GetNetwork().GetNics() {
				if n.GetName() != "eth1" {
					return fmt.Errorf("the node agent is told of %s, and would have it detached", n.GetName())
				}
			}
			if st := theirs.GetStatus().GetState(); st != arktosv1alpha2.ContainerState_CONTAINER_RUNNING || pod.GetStatus().GetNetwork().GetIp() != g.IP {
				return fmt.Errorf("the container is %s, at %s", st, pod.GetStatus().GetNetwork().GetIp())
			}
			return nil
		},
	} {
		group.Go(func() error {
			for i := range rounds {
				if err := do(ctx, i); err != nil {
					return fmt.Errorf("%s, round %d: %w", what, i+1, err)
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		g.t.Fatal(err)
	}
	if shares := g.Status().GetResources().GetLinux().GetCpuShares(); shares != 512+rounds-1 {
		g.t.Errorf("the last limit is %d", shares)
	}
	if taps := strings.Count(harness.Virsh(g.t, "domiflist", g.DomainName()), "vml"); taps != 1 {
		g.t.Errorf("the machine has %d NICs", taps)
	}
}
