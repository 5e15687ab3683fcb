// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// made is what "run" calls when all goes well, undone how it takes it back.
var (
	made   = []string{"RunPodSandbox default/web", "CreateContainer 5a0000000000", "StartContainer c00000000000"}
	undone = []string{"StopPodSandbox 5a0000000000", "RemovePodSandbox 5a0000000000"}
)

func (w *world) wantCalls(t *testing.T, parts ...[]string) {
	t.Helper()
	if diff := cmp.Diff(slices.Concat(parts...), w.called()); diff != "" {
		t.Error(diff)
	}
}

// runWeb runs a pod named web with its log in folder.
func (w *world) runWeb(t *testing.T, folder string, more ...string) result {
	t.Helper()
	return w.ctl(t, append([]string{"run", "registry.example/tiny:latest", "--name", "web", "--log-dir", folder}, more...)...)
}

func file(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestRunPullsWhatIsMissingAndPrintsThePod(t *testing.T) {
	w := newWorld(t)
	got := w.runWeb(t, t.TempDir())
	got.wantOK(t)
	golden(t, "run.txt", got.stdout)
	golden(t, "run-progress.txt", got.stderr)
	w.wantCalls(t, []string{"PullImage registry.example/tiny:latest"}, made)
	if img := w.created.GetImage(); img.GetImage() != pulledID || img.GetUserSpecifiedImage() != "registry.example/tiny:latest" {
		t.Errorf("the container's image is %v", img)
	}
}

func TestRunPullsAsItIsTold(t *testing.T) {
	pull := []string{"PullImage registry.example/tiny:latest"}
	for policy, want := range map[string][]string{"always": pull, "missing": nil, "never": nil} {
		w := newWorld(t)
		w.addImages()
		w.runWeb(t, t.TempDir(), "--pull", policy).wantOK(t)
		w.wantCalls(t, want, made)
	}
	w := newWorld(t)
	w.runWeb(t, t.TempDir(), "--pull", "never").wantError(t, exitFailed, "is not on this node", "vmletctl image pull registry.example/tiny:latest")
	w.wantCalls(t)
}

func TestRunAsksForWhatTheFlagsSay(t *testing.T) {
	const folder = "/var/log/by/vmlet"
	w := newWorld(t)
	w.addImages()
	got := w.runWeb(t, folder, "--namespace", "shop", "--memory", "512MiB", "--cpus", "2", "--hostname", "www",
		"--user-data", file(t, "#cloud-config\n"), "--ssh-key", file(t, "ssh-ed25519 AAAA one\n\n"), "--ssh-key", file(t, "ssh-ed25519 BBBB two"),
		"--annotation", "vmlet.io/root-size=2Gi", "--annotation", "note=a=b")
	got.wantOK(t)
	want := map[string]string{
		"vmlet.io/memory": "512Mi", "vmlet.io/vcpus": "2", "vmlet.io/user-data": "#cloud-config\n",
		"vmlet.io/ssh-keys": "ssh-ed25519 AAAA one\nssh-ed25519 BBBB two\n", "vmlet.io/root-size": "2Gi", "note": "a=b",
	}
	if diff := cmp.Diff(want, w.ran.GetAnnotations()); diff != "" {
		t.Error(diff)
	}
	meta := w.ran.GetMetadata()
	if meta.GetName() != "web" || meta.GetNamespace() != "shop" || len(meta.GetUid()) != 32 || w.ran.GetHostname() != "www" {
		t.Errorf("got %v", w.ran)
	}
	if w.ran.GetLogDirectory() != folder || w.created.GetLogPath() != "shop_web_"+meta.GetUid()+".log" {
		t.Errorf("the log is %s in %s", w.created.GetLogPath(), w.ran.GetLogDirectory())
	}
	if w.ran.GetLabels()[madeByLabel] != madeBy {
		t.Errorf("labels %v", w.ran.GetLabels())
	}
}

func TestRunPassesOnUserDataThatIsNoText(t *testing.T) {
	w := newWorld(t)
	w.addImages()
	w.stdin = "\x1f\x8b\xff"
	w.runWeb(t, t.TempDir(), "--user-data", "-").wantOK(t)
	if diff := cmp.Diff(map[string]string{"vmlet.io/user-data-base64": "H4v/"}, w.ran.GetAnnotations()); diff != "" {
		t.Error(diff)
	}
}

func TestRunRefusesAPrivateKey(t *testing.T) {
	w := newWorld(t)
	got := w.runWeb(t, t.TempDir(), "--ssh-key", file(t, "-----BEGIN OPENSSH PRIVATE KEY-----\nsecret\n"))
	got.wantError(t, exitFailed, "holds a private key")
	if strings.Contains(got.stderr, "secret") {
		t.Error("and shows it")
	}
	w.wantCalls(t)
}

func TestRunNamesAPodAfterItsImage(t *testing.T) {
	for image, want := range map[string]string{
		"registry.example:5000/os/Debian_12:v1": `^debian-12-[0-9a-f]{4}$`,
		"tiny@sha256:beef":                      `^tiny-[0-9a-f]{4}$`,
		"___":                                   `^vm-[0-9a-f]{4}$`,
	} {
		if got := nameFor(image); !regexp.MustCompile(want).MatchString(got) {
			t.Errorf("%s: got %s", image, got)
		}
	}
}

func TestRunRefusesANameThatIsTaken(t *testing.T) {
	w := newWorld(t)
	w.addPods("")
	w.runWeb(t, t.TempDir()).wantError(t, exitFailed, "a pod default/web (1111aaaa0000) already", "vmletctl rm default/web")
	w.wantCalls(t)
}

func TestRunThatFailsLeavesNothing(t *testing.T) {
	pull := []string{"PullImage registry.example/tiny:latest"}
	for method, calls := range map[string][][]string{
		"PullImage":       {},
		"RunPodSandbox":   {pull},
		"CreateContainer": {pull, made[:1], undone},
		"StartContainer":  {pull, made[:2], undone},
	} {
		t.Run(method, func(t *testing.T) {
			folder := t.TempDir()
			w := newWorld(t)
			w.on(method, func(context.Context) error {
				if method == "StartContainer" {
					writeLog(t, filepath.Join(folder, w.created.GetLogPath()), entry+"the console\n")
				}
				return status.Error(codes.FailedPrecondition, method+" went wrong")
			})
			got := w.runWeb(t, folder)
			if got.code != exitFailed || !strings.HasSuffix(got.stderr, "vmletctl: "+method+" went wrong\n") {
				t.Errorf("got %+v", got)
			}
			w.wantCalls(t, calls...)
			left, err := os.ReadDir(folder)
			if err != nil || len(left) > 0 {
				t.Errorf("left in the log folder: %v, %v", left, err)
			}
		})
	}
}

func TestRunSaysWhatItCouldNotRemove(t *testing.T) {
	w := newWorld(t)
	w.addImages()
	w.fail("CreateContainer", codes.FailedPrecondition, "too little memory")
	w.fail("RemovePodSandbox", codes.Unavailable, "libvirt does not answer")
	w.runWeb(t, t.TempDir()).wantError(t, exitFailed, "too little memory; and what was made of it is left: libvirt does not answer", "vmletctl rm -f 5a0000000000")
}

// TestRunThatIsInterruptedLeavesNothing breaks off each call of a run at a moment at which
// the node goes on with it.
func TestRunThatIsInterruptedLeavesNothing(t *testing.T) {
	for method, calls := range map[string][][]string{
		"RunPodSandbox":   {made[:1], undone},
		"CreateContainer": {made[:1], undone},
		"StartContainer":  {made[:2], undone},
	} {
		t.Run(method, func(t *testing.T) {
			w := newWorld(t)
			w.addImages()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			w.on(method, func(call context.Context) error {
				if ctx.Err() == nil {
					cancel()
					<-call.Done()
					return call.Err()
				}
				return nil // the retry, by which a run learns what became of the sandbox
			})
			got := w.ctlWithin(ctx, "run", "registry.example/tiny:latest", "--name", "web", "--log-dir", t.TempDir())
			got.wantError(t, exitFailed, "vmletctl: interrupted\n")
			w.wantCalls(t, calls...)
		})
	}
}

func TestRunWaitsForTheAgent(t *testing.T) {
	w := newWorld(t)
	w.addImages()
	got := w.runWeb(t, t.TempDir(), "--wait", "--timeout", "90s", "-o", "json")
	got.wantOK(t)
	w.wantCalls(t, made, []string{`ExecSync c00000000000 90 ["true"]`})
	var pod podView
	if err := json.Unmarshal([]byte(got.stdout), &pod); err != nil {
		t.Fatal(err)
	}
	if pod.Name != "web" || pod.IPs[0] != "10.88.0.7" || pod.Container.State != "Running" {
		t.Errorf("got %+v", pod)
	}
}

func TestRunKeepsAPodWhoseAgentDoesNotAnswer(t *testing.T) {
	silent := func(ctx context.Context, _ *runtimeapi.ExecSyncRequest) (*runtimeapi.ExecSyncResponse, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	w := newWorld(t)
	w.addImages()
	w.exec = silent
	got := w.runWeb(t, t.TempDir(), "--wait", "--timeout", "1s")
	if got.code != exitFailed || !strings.Contains(got.stderr, "default/web runs, but its guest agent did not answer within 1s") {
		t.Errorf("got %+v", got)
	}
	w.wantCalls(t, made, []string{`ExecSync c00000000000 1 ["true"]`})
}

func TestRunNoticesAVMThatEndsWhileItIsWaitedFor(t *testing.T) {
	w := newWorld(t)
	w.addImages()
	w.exec = func(ctx context.Context, req *runtimeapi.ExecSyncRequest) (*runtimeapi.ExecSyncResponse, error) {
		w.change(req.GetContainerId(), func(s *runtimeapi.ContainerStatus) { s.State = runtimeapi.ContainerState_CONTAINER_EXITED })
		<-ctx.Done()
		return nil, ctx.Err()
	}
	got := w.runWeb(t, t.TempDir(), "--wait")
	if got.code != exitFailed || !strings.Contains(got.stderr, "the VM of pod default/web ended while it was waited for") {
		t.Errorf("got %+v", got)
	}
}

func TestHelpHasAnExampleForEachCommand(t *testing.T) {
	a := &app{env: func(string) string { return "" }}
	for _, cmd := range a.rootCommand().Commands() {
		if cmd.HasSubCommands() {
			for _, sub := range cmd.Commands() {
				if sub.Example == "" {
					t.Errorf("%s has none", sub.CommandPath())
				}
			}
			continue
		}
		if cmd.Example == "" {
			t.Errorf("%s has none", cmd.CommandPath())
		}
	}
}
