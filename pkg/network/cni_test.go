// SPDX-License-Identifier: Apache-2.0

package network

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/containernetworking/cni/libcni"
	"github.com/google/go-cmp/cmp"

	"github.com/vmlet/vmlet/pkg/vm"
)

const testID = "00112233445566778899aabbccddeeff"

func TestPluginsHearWhoTheSandboxIs(t *testing.T) {
	rt := sandboxConf(vm.NetworkRequest{
		SandboxID: testID, Name: "web-0", Namespace: "shop", UID: "u-1",
		PortMappings: []vm.PortMapping{
			{Protocol: "tcp", ContainerPort: 80, HostPort: 8080, HostIP: "127.0.0.1"},
			{Protocol: "udp", ContainerPort: 53},
		},
		DNS: vm.DNSConfig{Servers: []string{"10.0.0.10"}, Searches: []string{"shop.svc"}, Options: []string{"ndots:5"}},
	}, "/run/netns/x")
	got, err := json.Marshal(rt)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"ContainerID":"` + testID + `","NetNS":"/run/netns/x","IfName":"eth0","Args":[["IgnoreUnknown","1"],["K8S_POD_NAMESPACE","shop"],` +
		`["K8S_POD_NAME","web-0"],["K8S_POD_INFRA_CONTAINER_ID","` + testID + `"],["K8S_POD_UID","u-1"]],"CapabilityArgs":{` +
		`"dns":{"servers":["10.0.0.10"],"searches":["shop.svc"],"options":["ndots:5"]},` +
		`"portMappings":[{"hostPort":8080,"containerPort":80,"protocol":"tcp","hostIP":"127.0.0.1"}]},"CacheDir":""}`
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("runtime configuration (-want +got):\n%s", diff)
	}
}

func TestCapabilitiesNobodyAskedForAreAbsent(t *testing.T) {
	rt := sandboxConf(vm.NetworkRequest{SandboxID: testID, PortMappings: []vm.PortMapping{{Protocol: "tcp", ContainerPort: 80}}}, "")
	if len(rt.CapabilityArgs) != 0 {
		t.Errorf("capabilities %v, want none", rt.CapabilityArgs)
	}
}

func TestRequestsThatCannotBeToldAreRefused(t *testing.T) {
	good := vm.NetworkRequest{SandboxID: testID, Name: "a", Namespace: "b", UID: "c"}
	if err := checkRequest(good); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*vm.NetworkRequest){
		"no ID":                    func(r *vm.NetworkRequest) { r.SandboxID = "" },
		"an ID that leaves":        func(r *vm.NetworkRequest) { r.SandboxID = "../../../../../../../../../etc/a" },
		"an ID in capitals":        func(r *vm.NetworkRequest) { r.SandboxID = strings.ToUpper(testID) },
		"another argument inside":  func(r *vm.NetworkRequest) { r.Name = "a;K8S_POD_NAMESPACE=kube-system" },
		"an equals sign":           func(r *vm.NetworkRequest) { r.UID = "a=b" },
		"an argument of ours":      func(r *vm.NetworkRequest) { r.Args = map[string]string{"K8S_POD_NAME": "b"} },
		"an address by the way":    func(r *vm.NetworkRequest) { r.Args = map[string]string{"IP": "10.0.0.1"} },
		"no argument":              func(r *vm.NetworkRequest) { r.Args = map[string]string{"": "b"} },
		"two arguments":            func(r *vm.NetworkRequest) { r.Args = map[string]string{"A": "b;K8S_POD_NAME=c"} },
		"an address with another":  func(r *vm.NetworkRequest) { r.IPs = []string{"10.0.0.1;K8S_POD_NAMESPACE=kube-system"} },
		"a MAC with an argument":   func(r *vm.NetworkRequest) { r.MAC = "02:00:00:00:00:01;K8S_POD_NAME=x" },
		"an argument with a break": func(r *vm.NetworkRequest) { r.Args = map[string]string{"A": "b\n"} },
	} {
		req := good
		spoil(&req)
		if err := checkRequest(req); !errors.Is(err, errdefs.ErrInvalidArgument) {
			t.Errorf("%s: error = %v, want InvalidArgument", name, err)
		}
	}
}

func TestTapNamesFitAndDiffer(t *testing.T) {
	names := map[string]bool{}
	for _, id := range []string{testID, "f" + testID[1:]} {
		for nic := range 100 {
			names[TapName(id, nic)] = true
			if len(TapName(id, nic)) > 15 {
				t.Fatalf("%s is too long", TapName(id, nic))
			}
		}
	}
	if len(names) != 200 {
		t.Errorf("%d names for 200 NICs", len(names))
	}
}

// writePlugin makes a plugin of a shell script.
func writePlugin(tb testing.TB, dir, name, script string) string {
	tb.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
		tb.Fatal(err)
	}
	return path
}

func TestPluginThatHangsIsKilledWithItsChildren(t *testing.T) {
	dir := t.TempDir()
	pidFile := filepath.Join(dir, "pid")
	// The child keeps the plugin's output open.
	plugin := writePlugin(t, dir, "hangs", "sleep 600 & echo $! > "+pidFile+".new; mv "+pidFile+".new "+pidFile+"; wait")
	ctx, cancel := withTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	begin := time.Now()
	_, err := (&pluginExec{}).ExecPlugin(ctx, plugin, nil, []string{"CNI_COMMAND=ADD", "PATH=" + os.Getenv("PATH")})
	if !errdefs.IsDeadlineExceeded(err) || !strings.Contains(err.Error(), "plugin hangs was killed: no answer within 300ms") {
		t.Errorf("error = %v", err)
	}
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("took %v", took)
	}
	text, err := os.ReadFile(pidFile)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(5 * time.Second); alive(t, pid); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the plugin's child %d lives on (killed now: %v)", pid, syscall.Kill(pid, syscall.SIGKILL))
		}
	}
}

// alive is false for a zombie, which some init may never reap.
func alive(t *testing.T, pid int) bool {
	t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, after, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(after, "Z") && !strings.HasPrefix(after, "X")
}

func TestWhatAPluginSaysIsInTheError(t *testing.T) {
	for name, c := range map[string]struct {
		script string
		says   string
		class  error
	}{
		"a CNI error":        {`echo '{"cniVersion":"1.0.0","code":7,"msg":"bad mask","details":"of 10.0.0.0"}'; exit 1`, "plugin p: bad mask; of 10.0.0.0", nil},
		"try again later":    {`echo '{"code":11,"msg":"no leader yet"}'; exit 1`, "no leader yet", errdefs.ErrUnavailable},
		"free text":          {`echo oops; exit 3`, `plugin p: exit status 3: "oops"`, nil},
		"stderr":             {`echo oops >&2; exit 3`, `"oops"`, nil},
		"silence":            {`exit 3`, "(nothing)", nil},
		"garbage":            {`echo 'Segmentation fault'`, `answered what is not JSON: "Segmentation fault"`, nil},
		"nothing":            {``, "answered what is not JSON: (nothing)", nil},
		"much":               {`yes | head -c 100000; exit 1`, `"...`, nil},
		"killed by a signal": {`kill -SEGV $$`, "segmentation fault", nil},
	} {
		t.Run(name, func(t *testing.T) {
			plugin := writePlugin(t, t.TempDir(), "p", c.script)
			_, err := (&pluginExec{}).ExecPlugin(t.Context(), plugin, nil, []string{"CNI_COMMAND=ADD", "PATH=" + os.Getenv("PATH")})
			if err == nil || !strings.Contains(err.Error(), c.says) || len(err.Error()) > 500 {
				t.Errorf("error = %v, want one with %q", err, c.says)
			}
			if c.class != nil && !errors.Is(err, c.class) {
				t.Errorf("error = %v, want class %v", err, c.class)
			}
		})
	}
}

func TestDELNeedNotAnswer(t *testing.T) {
	plugin := writePlugin(t, t.TempDir(), "p", "cat > /dev/null")
	if _, err := (&pluginExec{}).ExecPlugin(t.Context(), plugin, []byte("{}"), []string{"CNI_COMMAND=DEL", "PATH=" + os.Getenv("PATH")}); err != nil {
		t.Error(err)
	}
}

func TestMissingPluginIsNamedWithTheFolders(t *testing.T) {
	_, err := (&pluginExec{}).FindInPath("bridge", []string{"/opt/a", "/opt/b"})
	if !errors.Is(err, errdefs.ErrUnavailable) || !strings.Contains(err.Error(), `"bridge" not found in /opt/a, /opt/b`) {
		t.Errorf("error = %v", err)
	}
}

func TestAttachmentIsKeptUntilItIsRemoved(t *testing.T) {
	s := attachments{dir: filepath.Join(t.TempDir(), "attachments")}
	a := attachment{Request: vm.NetworkRequest{SandboxID: testID, Name: "n", PortMappings: []vm.PortMapping{{HostPort: 1}}}, Config: []byte(validList)}
	if _, err := s.get(testID); !errdefs.IsNotFound(err) {
		t.Fatalf("before: error = %v, want NotFound", err)
	}
	if err := s.create(a); err != nil {
		t.Fatal(err)
	}
	if err := s.create(a); !errdefs.IsAlreadyExists(err) {
		t.Fatalf("again: error = %v, want AlreadyExists", err)
	}
	got, err := s.get(testID)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(a, got); diff != "" {
		t.Errorf("attachment (-want +got):\n%s", diff)
	}
	if info, err := os.Stat(s.path(testID)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("file: %v, %v; CNI configurations may hold secrets", info.Mode(), err)
	}
	for range 2 {
		if err := s.remove(testID); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAttachmentCutShortByACrashHasTheIDAlone(t *testing.T) {
	s := attachments{dir: t.TempDir()}
	for _, text := range []string{"", `{"request":{"sandboxID":"` + testID, `{}`} {
		if err := os.WriteFile(s.path(testID), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := s.get(testID)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(attachment{Request: vm.NetworkRequest{SandboxID: testID}}, got); diff != "" {
			t.Errorf("%q: attachment (-want +got):\n%s", text, diff)
		}
	}
}

func TestOnlySandboxesAreOurs(t *testing.T) {
	dir := t.TempDir()
	writeFiles(t, dir, map[string]string{testID: "", "cni-1234": "", "README": "", testID + ".new": ""})
	ids, err := sandboxesIn(dir)
	if err != nil || len(ids) != 1 || ids[0] != testID {
		t.Errorf("sandboxes %v, %v; want one", ids, err)
	}
}

func parseList(t *testing.T, text string) *libcni.NetworkConfigList {
	t.Helper()
	list, err := libcni.NetworkConfFromBytes([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestStatusIsAskedOncePerAge(t *testing.T) {
	asked := 0
	s := &statusProbe{ask: func(context.Context, *libcni.NetworkConfigList) error { asked++; return errdefs.ErrInternal }}
	list := parseList(t, validList)
	for range 3 {
		if err := s.answer(t.Context(), list); !errors.Is(err, errdefs.ErrInternal) {
			t.Fatalf("error = %v", err)
		}
	}
	s.close()
	if asked != 1 {
		t.Errorf("asked %d times", asked)
	}
}

func TestStatusThatHangsDoesNotHoldUpReady(t *testing.T) {
	ended := make(chan struct{})
	s := &statusProbe{ask: func(ctx context.Context, _ *libcni.NetworkConfigList) error {
		<-ctx.Done()
		close(ended)
		return ctx.Err()
	}}
	begin := time.Now()
	err := s.answer(t.Context(), parseList(t, validList))
	if err == nil || !strings.Contains(err.Error(), "not answered yet") {
		t.Errorf("error = %v", err)
	}
	if took := time.Since(begin); took > statusTimeout/2 {
		t.Errorf("took %v", took)
	}
	s.close()
	select {
	case <-ended:
	default:
		t.Error("close left the probe running")
	}
	if err := s.answer(t.Context(), parseList(t, validSingleList)); err == nil {
		t.Error("a closed probe answers for a configuration it never asked about")
	}
}

const validSingleList = `{"name":"x","plugins":[{"type":"ptp"}]}`

func TestOldStatusIsNotGivenForANewConfiguration(t *testing.T) {
	s := &statusProbe{ask: func(_ context.Context, l *libcni.NetworkConfigList) error {
		if l.Name == "x" {
			return errdefs.ErrInternal
		}
		return nil
	}}
	defer s.close()
	if err := s.answer(t.Context(), parseList(t, validList)); err != nil {
		t.Fatal(err)
	}
	if err := s.answer(t.Context(), parseList(t, validSingleList)); !errors.Is(err, errdefs.ErrInternal) {
		t.Errorf("error = %v, want the new configuration's", err)
	}
}
