// SPDX-License-Identifier: Apache-2.0

//go:build integration

package integration

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vmlet/vmlet/tests/harness"
)

// whoAmI tells who its process is and what it may do.
const whoAmI = `echo "uid $(id -u) gid $(id -g) groups $(id -G)"
nonewprivs
grep -E '^(Cap...|NoNewPrivs|Seccomp):' /proc/self/status | tr '\t\n' ' ;'; echo
echo "masked: $(wc -c </etc/os-release) bytes, $(ls /usr/lib/tiny | wc -l) files"
for file in /var/log/x /tmp/x /run/x; do touch $file 2>&1 || true; done
mount -t tmpfs none /mnt 2>&1; echo "mount: $?"
pwd`

// TestSecurityContextInTheGuest: what a container's security context says holds for its
// command, and for what is executed beside it.
func TestSecurityContextInTheGuest(t *testing.T) {
	node := harness.StartNode(t)
	number := func(n int64) *runtimeapi.Int64Value { return &runtimeapi.Int64Value{Value: n} }
	for name, tt := range map[string]struct {
		context *runtimeapi.LinuxContainerSecurityContext
		want    string
	}{
		"confined": {&runtimeapi.LinuxContainerSecurityContext{
			RunAsUser: number(1000), RunAsGroup: number(4000), SupplementalGroups: []int64{1234},
			SupplementalGroupsPolicy: runtimeapi.SupplementalGroupsPolicy_Strict,
			Capabilities:             &runtimeapi.Capability{DropCapabilities: []string{"ALL"}, AddAmbientCapabilities: []string{"NET_BIND_SERVICE"}},
			NoNewPrivs:               true, ReadonlyRootfs: true, MaskedPaths: []string{"/etc/os-release", "/usr/lib/tiny"}, ReadonlyPaths: []string{"/tmp"},
			Seccomp: &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_RuntimeDefault},
		}, `uid 1000 gid 4000 groups 4000 1234
Effective uid: 1000
CapInh: 0000000000000400;CapPrm: 0000000000000400;CapEff: 0000000000000400;CapBnd: 0000000000000400;CapAmb: 0000000000000400;NoNewPrivs: 1;Seccomp: 2;
masked: 0 bytes, 0 files
touch: /var/log/x: Read-only file system
touch: /tmp/x: Read-only file system
touch: /run/x: Permission denied
mount: permission denied (are you root?)
mount: 1
/
`},
		"by default": {&runtimeapi.LinuxContainerSecurityContext{}, `uid 0 gid 0 groups 0
Effective uid: 0
CapInh: 0000000000000000;CapPrm: 00000000a80425fb;CapEff: 00000000a80425fb;CapBnd: 00000000a80425fb;CapAmb: 0000000000000000;NoNewPrivs: 0;Seccomp: 0;
masked: SOME
mount: permission denied (are you root?)
mount: 1
/
`},
		"user with the guest's groups": {&runtimeapi.LinuxContainerSecurityContext{
			RunAsUsername: "default-user", SupplementalGroups: []int64{1234},
			Capabilities: &runtimeapi.Capability{AddCapabilities: []string{"SYS_ADMIN"}},
		}, `uid 1000 gid 1000 groups 1000 1234 50000
Effective uid: 0
CapInh: 0000000000000000;CapPrm: 0000000000000000;CapEff: 0000000000000000;CapBnd: 00000000a82425fb;CapAmb: 0000000000000000;NoNewPrivs: 0;Seccomp: 0;
masked: SOME
touch: /var/log/x: Permission denied
touch: /run/x: Permission denied
mount: permission denied (are you root?)
mount: 1
/
`},
		"privileged": {&runtimeapi.LinuxContainerSecurityContext{
			Privileged: true, MaskedPaths: []string{"/etc/os-release", "/usr/lib/tiny"}, ReadonlyPaths: []string{"/tmp"},
			Seccomp: &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_RuntimeDefault},
		}, `uid 0 gid 0 groups 0
Effective uid: 0
CapInh: 0000000000000000;CapPrm: 000001ffffffffff;CapEff: 000001ffffffffff;CapBnd: 000001ffffffffff;CapAmb: 0000000000000000;NoNewPrivs: 0;Seccomp: 0;
masked: SOME
mount: 0
/
`},
	} {
		t.Run(name, func(t *testing.T) {
			pod := node.Run(harness.Pod{
				Name: "security-" + strings.Fields(name)[0], Command: []string{"sh", "-c", whoAmI + "; echo done; sleep 1000"},
				Container: func(c *runtimeapi.ContainerConfig) { c.Linux.SecurityContext = tt.context },
			})
			defer pod.Remove()
			pod.WaitLog("done")
			said, _, _ := strings.Cut(pod.Output("stdout"), "done\n")
			if diff := cmp.Diff(tt.want, withoutFigures(said)); diff != "" {
				t.Errorf("the command, want -, got +:\n%s", diff)
			}
			if diff := cmp.Diff(strings.TrimSpace(tt.want), withoutFigures(pod.Exec("sh", "-c", whoAmI))); diff != "" {
				t.Errorf("what is executed beside it, want -, got +:\n%s", diff)
			}
		})
	}
}

// withoutFigures takes the size of files that are not masked out.
func withoutFigures(said string) string {
	lines := strings.SplitAfter(said, "\n")
	for i, line := range lines {
		if strings.HasPrefix(line, "masked: ") && !strings.HasPrefix(line, "masked: 0 bytes, 0 files") {
			lines[i] = "masked: SOME\n"
		}
	}
	return strings.Join(lines, "")
}

// TestUserOfAMachine: without a command, a user that the pod names is whom commands are
// executed as; root is what the machine has.
func TestUserOfAMachine(t *testing.T) {
	node := harness.StartNode(t)
	named := node.Run(harness.Pod{Name: "named", Container: func(c *runtimeapi.ContainerConfig) {
		c.Linux.SecurityContext = &runtimeapi.LinuxContainerSecurityContext{RunAsUsername: "nobody", NoNewPrivs: true}
	}})
	if got := named.Exec("id", "-un"); got != "nobody" {
		t.Errorf("executed as %q", got)
	}
	root := node.Run(harness.Pod{Name: "root", Container: func(c *runtimeapi.ContainerConfig) {
		c.Linux.SecurityContext = &runtimeapi.LinuxContainerSecurityContext{
			RunAsUser: &runtimeapi.Int64Value{}, NoNewPrivs: true, Capabilities: &runtimeapi.Capability{DropCapabilities: []string{"ALL"}},
		}
	}})
	if got := root.Exec("sh", "-c", "id -u; grep CapEff /proc/self/status"); got != "0\nCapEff:\t000001ffffffffff" {
		t.Errorf("root of the machine is %q", got)
	}
}

// TestUserThatTheGuestLacks is why a command is not started.
func TestUserThatTheGuestLacks(t *testing.T) {
	node := harness.StartNode(t)
	pod := node.Run(harness.Pod{Name: "stranger", Command: []string{"true"}, Container: func(c *runtimeapi.ContainerConfig) {
		c.Linux.SecurityContext = &runtimeapi.LinuxContainerSecurityContext{RunAsUsername: "stranger"}
	}})
	if st := pod.WaitExited(); st.GetExitCode() == 0 || !strings.Contains(st.GetMessage(), "stranger") {
		t.Errorf("exit %d %s: %q", st.GetExitCode(), st.GetReason(), st.GetMessage())
	}
}
