// SPDX-License-Identifier: Apache-2.0

//go:build integration

package kubelet

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/vmlet/vmlet/tests/harness"
)

// hookServer is where HTTP hooks with a host go: a service of the node's, told of its pods.
type hookServer struct {
	address string
	calls   chan string
}

func startHookServer(t *testing.T) *hookServer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &hookServer{address: l.Addr().String(), calls: make(chan string, 16)}
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { s.calls <- r.URL.Path })}
	go func() { _ = server.Serve(l) }()      //nolint:errcheck // ends with Close
	t.Cleanup(func() { _ = server.Close() }) //nolint:errcheck // the test is over
	return s
}

func (s *hookServer) hook(path string) string {
	host, port, _ := strings.Cut(s.address, ":")
	return fmt.Sprintf("httpGet: {host: %s, port: %s, path: %s}", host, port, path)
}

func (s *hookServer) called(t *testing.T, want string) {
	t.Helper()
	select {
	case got := <-s.calls:
		if got != want {
			t.Errorf("the hook called %s, want %s", got, want)
		}
	case <-time.After(time.Minute):
		t.Errorf("%s was not called", want)
	}
}

func TestHooks(t *testing.T) {
	k := harness.StartKubelet(t, patientNode(t))
	dir, server := t.TempDir(), startHookServer(t)
	apply := func(name, spec, container string) func() {
		return func() { k.Apply(name, podSpec(name, dir, spec, container)) }
	}
	runPods(t, []podScenario{
		{"exec hooks run beside the command", func() { k.ApplyFile("hooks", "/srv", dir) }, func(t *testing.T) {
			k.WaitReady("hooks")
			deletePod(k, "hooks")
			order := sharedText(t, dir, "hooks", "order")
			if !strings.Contains(order, "started\n") || !strings.Contains(order, "postStart\n") || !strings.HasSuffix(order, "preStop\nSIGTERM\n") {
				t.Errorf("what happened in the guest: %q", order)
			}
		}},
		{"a machine's postStart waits for its boot and has its volumes", func() { k.ApplyFile("machine", "/srv", dir) }, func(t *testing.T) {
			k.WaitReady("machine")
			boot := inGuest(t, k, "machine", "cat /proc/sys/kernel/random/boot_id")
			deletePod(k, "machine")
			for _, hook := range []string{"postStart", "preStop"} {
				if got := strings.TrimSpace(sharedText(t, dir, "machine", hook)); got != boot {
					t.Errorf("%s ran in boot %q, want %q", hook, got, boot)
				}
			}
		}},
		{"HTTP hooks of a service beside the guest", apply("node-http", "terminationGracePeriodSeconds: 30",
			"lifecycle:\n  postStart: {"+server.hook("/started")+"}\n  preStop: {"+server.hook("/stopping")+"}"), func(t *testing.T) {
			server.called(t, "/started")
			k.WaitReady("node-http")
			k.Delete("node-http")
			server.called(t, "/stopping")
			k.WaitGone("node-http")
		}},
		{"an HTTP preStop hook of the guest", apply("guest-http", "terminationGracePeriodSeconds: 30", `
command: [sh, -c, 'mkdir -p /srv/cgi-bin; printf "#!/bin/sh\necho drained >>/data/order; echo; echo ok\n" >/srv/cgi-bin/drain; chmod 755 /srv/cgi-bin/drain;
  httpd -p 8080 -h /srv; trap "echo SIGTERM >>/data/order; exit" TERM; while :; do sleep 0.1; done']
readinessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1}
lifecycle: {preStop: {httpGet: {port: 8080, path: /cgi-bin/drain}}}`), func(t *testing.T) {
			k.WaitReady("guest-http")
			deletePod(k, "guest-http")
			if order := sharedText(t, dir, "guest-http", "order"); order != "drained\nSIGTERM\n" {
				t.Errorf("what happened in the guest: %q", order)
			}
		}},
		{"sleep hooks", apply("sleep", "terminationGracePeriodSeconds: 30", `
command: [sh, -c, 'trap "date +%s >/data/term; exit" TERM; while :; do sleep 0.1; done']
lifecycle: {postStart: {sleep: {seconds: 1}}, preStop: {sleep: {seconds: 3}}}`), func(t *testing.T) {
			k.WaitReady("sleep")
			now := guestNow(t, k, "sleep")
			deletePod(k, "sleep")
			var term int64
			if _, err := fmt.Sscan(sharedText(t, dir, "sleep", "term"), &term); err != nil || term-now < 3 {
				t.Errorf("SIGTERM came %d s after the deletion, want at least the hook's 3, %v", term-now, err)
			}
		}},
		{"a postStart hook that fails kills the container", apply("bad-start", "restartPolicy: Never\nterminationGracePeriodSeconds: 5", `
command: [sh, -c, 'trap "echo SIGTERM >>/data/order; exit 3" TERM; while :; do sleep 0.1; done']
lifecycle: {postStart: {exec: {command: [sh, -c, 'echo what it lacks; exit 7']}}}`), func(t *testing.T) {
			pod := k.WaitPhase("bad-start", "Failed")
			k.WaitEvent("bad-start", "FailedPostStartHook: PostStartHook failed")
			k.WaitEvent("bad-start", "Killing: FailedPostStartHook")
			if state := pod.VM().State.Terminated; state == nil || state.ExitCode != 3 {
				t.Errorf("the container ended with %+v", state)
			}
			if order := sharedText(t, dir, "bad-start", "order"); order != "SIGTERM\n" {
				t.Errorf("how it was killed: %q", order)
			}
		}},
		{"a postStart HTTP hook of the guest comes before the guest can answer", apply("early-http", "restartPolicy: Never\nterminationGracePeriodSeconds: 1",
			"lifecycle: {postStart: {httpGet: {port: 80}}}"), func(t *testing.T) {
			k.WaitPhase("early-http", "Failed")
			k.WaitEvent("early-http", "FailedPostStartHook: PostStartHook failed")
		}},
		{"a preStop hook that fails holds up nothing", apply("bad-stop", "terminationGracePeriodSeconds: 20", `
command: [sh, -c, 'trap "echo SIGTERM >>/data/order; exit" TERM; while :; do sleep 0.1; done']
lifecycle: {preStop: {exec: {command: [no-such-program]}}}`), func(t *testing.T) {
			k.WaitReady("bad-stop")
			waitGuest(k, "bad-stop", "ps", "sleep 0.1")
			deletePod(k, "bad-stop")
			k.WaitEvent("bad-stop", "FailedPreStopHook: PreStopHook failed")
			if order := sharedText(t, dir, "bad-stop", "order"); order != "SIGTERM\n" {
				t.Errorf("how it was ended: %q", order)
			}
		}},
		{"a preStop hook that takes too long ends with the grace", apply("slow-stop", "terminationGracePeriodSeconds: 3", `
command: [sh, -c, 'trap "echo SIGTERM >>/data/order; exit" TERM; while :; do sleep 0.1; done']
lifecycle: {preStop: {exec: {command: [sh, -c, 'echo preStop >>/data/order; sleep 1000']}}}`), func(t *testing.T) {
			k.WaitReady("slow-stop")
			waitGuest(k, "slow-stop", "ps", "sleep 0.1")
			begin := time.Now()
			deletePod(k, "slow-stop")
			if took := time.Since(begin); took < 3*time.Second {
				t.Errorf("the deletion took %s, with a hook that does not end in 3 s of grace", took)
			}
			if order := sharedText(t, dir, "slow-stop", "order"); order != "preStop\nSIGTERM\n" {
				t.Errorf("what happened in the guest: %q", order)
			}
		}},
	})
}

// deletePod deletes a pod and waits until it is gone.
func deletePod(k *harness.Kubelet, name string) {
	k.Delete(name)
	k.WaitGone(name)
}

// guestNow is the guest's clock, in seconds.
func guestNow(t *testing.T, k *harness.Kubelet, pod string) (seconds int64) {
	t.Helper()
	if _, err := fmt.Sscan(inGuest(t, k, pod, "date +%s"), &seconds); err != nil {
		t.Fatal(err)
	}
	return seconds
}
