// SPDX-License-Identifier: Apache-2.0

//go:build integration

package integration

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vmlet/vmlet/tests/harness"
)

// TestSecondVmletOnTheSameRootIsRefused: it says who has it, and the first serves on.
func TestSecondVmletOnTheSameRootIsRefused(t *testing.T) {
	node := harness.StartNode(t)
	out, err := exec.CommandContext(t.Context(), harness.Bin("vmlet-failpoints"), "--config", node.ConfigFile(), "--listen", filepath.Join(node.RunDir, "other.sock")).CombinedOutput()
	if err == nil || !strings.Contains(string(out), fmt.Sprint(node.PID())) {
		t.Errorf("%v: %s", err, out)
	}
	if _, err := node.Version(t.Context(), &runtimeapi.VersionRequest{}); err != nil {
		t.Error(err)
	}
}

// TestReload: SIGHUP takes over what it can, says what it cannot, and keeps the old
// configuration when the new one is wrong.
func TestReload(t *testing.T) {
	node := harness.StartNode(t)
	config, err := os.ReadFile(node.ConfigFile())
	if err != nil {
		t.Fatal(err)
	}
	reload := func(text, want string) {
		t.Helper()
		if err := os.WriteFile(node.ConfigFile(), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(node.PID(), syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		node.Eventually(10*time.Second, func() error {
			if log := node.LogTail(3); !strings.Contains(log, want) {
				return fmt.Errorf("no %q in %s", want, log)
			}
			return nil
		})
	}
	reload(strings.Replace(string(config), "memory: 128MiB", "memory: 100MiB", 1), "configuration reloaded")
	pod := node.Run(harness.Pod{Name: "small"})
	if got := harness.Virsh(t, "dominfo", pod.DomainName()); !strings.Contains(got, fmt.Sprint(100*1024)) {
		t.Errorf("the new default memory is not used:\n%s", got)
	}
	reload(string(config)+"cgroupDriver: systemd\n", "cgroupDriver")
	reload(string(config)+"nonsense: 1\n", "the old one stays")
	reload(string(config), "configuration reloaded")
}

// TestSIGTERMDrainsCalls: a call under way ends well, then the daemon does.
func TestSIGTERMDrainsCalls(t *testing.T) {
	node := harness.NewNode(t)
	plugin(t, node, `sleep 1; echo '{"cniVersion":"1.0.0","code":11,"msg":"after a while"}'; exit 1`)
	node.WriteCNI(`{"cniVersion":"1.0.0","name":"slow","plugins":[{"type":"broken"}]}`)
	node.Start()
	result := make(chan error, 1)
	go func() {
		_, err := node.RunPodSandbox(t.Context(), &runtimeapi.RunPodSandboxRequest{Config: node.SandboxConfig(harness.Pod{Name: "slow"})})
		result <- err
	}()
	node.Eventually(5*time.Second, func() error {
		if out, err := exec.CommandContext(t.Context(), "pgrep", "-f", filepath.Join(node.RunDir, "plugins")).Output(); err != nil || len(out) == 0 {
			return errNotYet
		}
		return nil
	})
	node.Stop()
	if err := <-result; err == nil || !strings.Contains(err.Error(), "after a while") {
		t.Errorf("the call under way got %v", err)
	}
}

// TestSecretsStayWhereTheyBelong: user-data and registry passwords are in no log, no
// argument list and no file that others may read.
func TestSecretsStayWhereTheyBelong(t *testing.T) {
	const secret = "correct-horse-battery-staple"
	node := harness.StartNode(t)
	pod := node.Run(harness.Pod{
		Name: "secret", Annotations: map[string]string{"vmlet.io/user-data": "#!/bin/sh\nPASSWORD=" + secret + "\n"},
		Container: func(c *runtimeapi.ContainerConfig) {
			c.Envs = []*runtimeapi.KeyValue{{Key: "TOKEN", Value: []byte(secret)}}
		},
	})
	_, err := node.Images.PullImage(t.Context(), &runtimeapi.PullImageRequest{
		Image: &runtimeapi.ImageSpec{Image: harness.TheRegistry().Host + "/none:1"}, Auth: &runtimeapi.AuthConfig{Username: "me", Password: secret},
	})
	if err == nil || strings.Contains(err.Error(), secret) {
		t.Errorf("error = %v", err)
	}
	pod.WaitReady()
	if log := node.LogTail(1 << 20); strings.Contains(log, secret) {
		t.Error("the daemon's log tells the secret")
	}
	cmdline, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", qemuPID(t, pod)))
	if err != nil || strings.Contains(string(cmdline), secret) {
		t.Errorf("QEMU's arguments: %v", err)
	}
	err = filepath.WalkDir(filepath.Join(node.LibDir, "node"), func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		b, err := os.ReadFile(path)
		if err == nil && info.Mode().Perm()&0o004 != 0 && strings.Contains(string(b), secret) {
			t.Errorf("%s (mode %04o) tells the secret", path, info.Mode().Perm())
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// TestDomainsArePresentable: virsh list tells people which pod a domain is.
func TestDomainsArePresentable(t *testing.T) {
	node := harness.StartNode(t)
	pod := node.RunSandbox(harness.Pod{Name: "shown"})
	pod.Create()
	if got := harness.Virsh(t, "list", "--all", "--title"); !strings.Contains(got, "test/shown") {
		t.Errorf("virsh list --title:\n%s", got)
	}
	if got := harness.Virsh(t, "desc", pod.DomainName()); !strings.Contains(got, "uid-shown") {
		t.Errorf("virsh desc: %s", got)
	}
}
