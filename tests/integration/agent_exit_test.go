// SPDX-License-Identifier: Apache-2.0

//go:build integration

package integration

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vmlet/vmlet/tests/harness"
)

// TestNoExitCodeIsLost kills vmlet with SIGKILL at random moments around the exits of
// commands, for a minute; with VMLET_KILLS=100, until it was killed that often. Every
// command's exit code, its last line and the time of its end are on record afterwards.
func TestNoExitCodeIsLost(t *testing.T) {
	wanted := 0
	if text := os.Getenv("VMLET_KILLS"); text != "" {
		var err error
		if wanted, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	node := harness.StartNode(t)
	kills, exits := 0, 0
	begin := time.Now()
	for round := 0; kills < wanted || wanted == 0 && time.Since(begin) < time.Minute; round++ {
		const together = 3
		var pods []*harness.Running
		for i := range together {
			pods = append(pods, node.Run(harness.Pod{
				Name:    fmt.Sprintf("exit-%d-%d", round, i),
				Command: []string{"sh", "-c", "mkfifo /tmp/go; echo up; read -r delay code </tmp/go; sleep $delay; echo exit with $code; exit $code"},
			}))
		}
		codes := map[*harness.Running]int32{}
		for _, pod := range pods {
			pod.WaitLog("up")
			codes[pod] = rand.Int32N(256)
		}
		triggered := map[*harness.Running]time.Time{}
		for pod, code := range codes {
			clock, err := strconv.ParseInt(pod.Exec("sh", "-c", fmt.Sprintf("date +%%s && echo 0.%d %d >/tmp/go", rand.IntN(10), code)), 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			triggered[pod] = time.Unix(clock, 0)
		}
		kills += killUntilAllHaveExited(t, node, pods)
		for pod, code := range codes {
			checkExit(t, pod, code, triggered[pod])
			exits++
			pod.Remove()
		}
		if t.Failed() {
			break
		}
	}
	t.Logf("%d exits under %d kills, in %s", exits, kills, time.Since(begin).Round(time.Second))
}

// killUntilAllHaveExited kills vmlet again and again until none of the pods' containers
// runs, and returns how often.
func killUntilAllHaveExited(t *testing.T, node *harness.Node, pods []*harness.Running) (kills int) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; {
		time.Sleep(time.Duration(rand.IntN(700)) * time.Millisecond)
		node.Kill9()
		kills++
		node.Start()
		running := 0
		for _, pod := range pods {
			if pod.Status().GetState() != runtimeapi.ContainerState_CONTAINER_EXITED {
				running++
			}
		}
		if running == 0 {
			return kills
		}
		if time.Now().After(deadline) {
			t.Fatalf("after %d kills, %d containers still run", kills, running)
		}
	}
}

func checkExit(t *testing.T, pod *harness.Running, code int32, triggered time.Time) {
	t.Helper()
	st := pod.Status()
	reason := "Error"
	if code == 0 {
		reason = "Completed"
	}
	if st.GetExitCode() != code || st.GetReason() != reason {
		t.Errorf("%s: exit %d %s (%s), want %d %s", pod.DomainName(), st.GetExitCode(), st.GetReason(), st.GetMessage(), code, reason)
	}
	// By the guest's clock, which is behind the host's: it begins with the whole second of its RTC.
	if at := time.Unix(0, st.GetFinishedAt()); at.Before(triggered) || at.After(time.Now()) {
		t.Errorf("%s: finished at %v, triggered at %v", pod.DomainName(), at, triggered)
	}
	if want := fmt.Sprintf("up\nexit with %d\n", code); pod.Log() != want {
		t.Errorf("%s: log %q, want %q", pod.DomainName(), pod.Log(), want)
	}
}

// TestJobOutlivesVmlet: vmlet is stopped, restarted, and away while the command writes and
// ends. Nothing of its output is lost or doubled.
func TestJobOutlivesVmlet(t *testing.T) {
	node := harness.StartNode(t)
	const lines = 60
	pod := node.Run(harness.Pod{
		Name: "job", Command: []string{"sh", "-c", fmt.Sprintf("i=0; while [ $i -lt %d ]; do i=$((i+1)); echo line $i; sleep 0.05; done; exit 5", lines)},
	})
	pod.WaitLog("line 5\n")
	node.Stop()
	node.Start()
	pod.WaitLog("line 20\n")
	node.Kill9()
	time.Sleep(4 * time.Second) // the command ends meanwhile
	node.Start()
	st := pod.WaitExited()
	if st.GetExitCode() != 5 || st.GetReason() != "Error" {
		t.Errorf("exit %d %s (%s), want 5 Error", st.GetExitCode(), st.GetReason(), st.GetMessage())
	}
	var want strings.Builder
	for i := range lines {
		fmt.Fprintf(&want, "line %d\n", i+1)
	}
	if got := pod.Log(); got != want.String() {
		t.Errorf("the log: %q", got)
	}
}
