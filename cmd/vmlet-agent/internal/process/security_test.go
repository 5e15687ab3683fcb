// SPDX-License-Identifier: Apache-2.0

package process_test

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	agentv1 "github.com/vmlet/vmlet/proto/agent/v1"
)

// allowAll is a filter that changes nothing but that there is one.
func allowAll() []byte { return program([4]uint32{unix.BPF_RET, 0, 0, unix.SECCOMP_RET_ALLOW}) }

// program assembles instructions: code, jt, jf, k.
func program(code ...[4]uint32) []byte {
	var b []byte
	for _, c := range code {
		b = binary.NativeEndian.AppendUint16(b, uint16(c[0]))
		b = append(b, byte(c[1]), byte(c[2]))
		b = binary.NativeEndian.AppendUint32(b, c[3])
	}
	return b
}

// bothWays runs a test for a security context without a filter and, by stage 2, with one.
func bothWays(t *testing.T, test func(t *testing.T, with func(*agentv1.Security) *agentv1.Security)) {
	t.Helper()
	t.Run("without a filter", func(t *testing.T) {
		test(t, func(s *agentv1.Security) *agentv1.Security { return s })
	})
	t.Run("with a filter", func(t *testing.T) {
		test(t, func(s *agentv1.Security) *agentv1.Security {
			s, _ = proto.Clone(s).(*agentv1.Security) //nolint:errcheck // it is one, cloned
			s.Seccomp = allowAll()
			return s
		})
	})
}

func TestUserAndGroups(t *testing.T) {
	s := newStarter(t)
	dir := t.TempDir()
	for file, content := range map[string]string{
		"passwd": "root:x:0:0::/root:/bin/sh\nana:x:1500:1600::/home/ana:/bin/sh\n",
		"group":  "root:x:0:\nana:x:1600:\nteam:x:1700:ana,bob\n",
	} {
		path := filepath.Join(dir, file)
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mount(path, "/etc/"+file, "", unix.MS_BIND, ""); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := unix.Unmount("/etc/"+file, 0); err != nil {
				t.Error(err)
			}
		})
	}
	tests := map[string]struct {
		security *agentv1.Security
		want     string // uid gid groups, home
	}{
		"root":                  {&agentv1.Security{}, "0 0 0 /root"},
		"a name":                {&agentv1.Security{User: "ana"}, "1500 1600 1600 1700 /home/ana"},
		"a name, strictly":      {&agentv1.Security{User: "ana", StrictGroups: true}, "1500 1600 1600 /home/ana"},
		"a number with a name":  {&agentv1.Security{User: "1500"}, "1500 1600 1600 1700 /home/ana"},
		"a number without":      {&agentv1.Security{User: "4321"}, "4321 0 0 /"},
		"another group":         {&agentv1.Security{User: "ana", Group: "77"}, "1500 77 77 1700 /home/ana"},
		"more groups":           {&agentv1.Security{User: "ana", SupplementalGroups: []uint32{88, 99}}, "1500 1600 1600 88 99 1700 /home/ana"},
		"more groups, strictly": {&agentv1.Security{User: "ana", StrictGroups: true, SupplementalGroups: []uint32{88}}, "1500 1600 1600 88 /home/ana"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			bothWays(t, func(t *testing.T, with func(*agentv1.Security) *agentv1.Security) {
				p := sh(`echo $(id -u) $(id -g) $(id -G) $HOME`)
				p.Security = with(tt.security)
				if out, errs, _ := run(t, s, p); out != tt.want+"\n" {
					t.Errorf("got %q, want %q; %s", out, tt.want, errs)
				}
			})
		})
	}
	t.Run("a name that is not there", func(t *testing.T) {
		_, err := s.Start(&agentv1.Process{Args: []string{"true"}, Security: &agentv1.Security{User: "eve"}}, false)
		if !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), `"eve"`) {
			t.Error(err)
		}
	})
}

// status returns a program that prints a line of /proc/self/status.
func status(keys string) *agentv1.Process {
	return &agentv1.Process{Args: []string{"grep", "-E", "^(" + keys + "):", "/proc/self/status"}}
}

func TestCapabilities(t *testing.T) {
	s := newStarter(t)
	const bind, chown = uint64(1) << unix.CAP_NET_BIND_SERVICE, uint64(1) << unix.CAP_CHOWN
	tests := map[string]struct {
		security                *agentv1.Security
		inh, prm, eff, bnd, amb uint64
	}{
		"root's": {
			&agentv1.Security{LimitCapabilities: true, Capabilities: []string{"CAP_CHOWN", "CAP_NET_BIND_SERVICE"}},
			0, bind | chown, bind | chown, bind | chown, 0,
		},
		"root's, no_new_privs": {
			&agentv1.Security{LimitCapabilities: true, NoNewPrivileges: true, Capabilities: []string{"CAP_CHOWN"}},
			0, chown, chown, chown, 0,
		},
		"none": {&agentv1.Security{LimitCapabilities: true}, 0, 0, 0, 0, 0},
		"a user's": {
			&agentv1.Security{User: "4321", LimitCapabilities: true, Capabilities: []string{"CAP_CHOWN"}}, 0, 0, 0, chown, 0,
		},
		"a user's ambient": {
			&agentv1.Security{
				User: "4321", LimitCapabilities: true, Capabilities: []string{"CAP_CHOWN", "CAP_NET_BIND_SERVICE"},
				AmbientCapabilities: []string{"CAP_NET_BIND_SERVICE"},
			}, bind, bind, bind, bind | chown, bind,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			bothWays(t, func(t *testing.T, with func(*agentv1.Security) *agentv1.Security) {
				p := status("CapInh|CapPrm|CapEff|CapBnd|CapAmb")
				p.Security = with(tt.security)
				want := fmt.Sprintf("CapInh:\t%016x\nCapPrm:\t%016x\nCapEff:\t%016x\nCapBnd:\t%016x\nCapAmb:\t%016x\n", tt.inh, tt.prm, tt.eff, tt.bnd, tt.amb)
				if out, errs, _ := run(t, s, p); out != want {
					t.Errorf("got %s%s\nwant %s", out, errs, want)
				}
			})
		})
	}
	t.Run("all without a limit", func(t *testing.T) {
		own, err := os.ReadFile("/proc/self/status")
		if err != nil {
			t.Fatal(err)
		}
		if out, _, _ := run(t, s, status("CapBnd")); !strings.Contains(string(own), out) {
			t.Errorf("got %s", out)
		}
	})
}

func TestNoNewPrivileges(t *testing.T) {
	s := newStarter(t)
	for _, want := range []bool{false, true} {
		bothWays(t, func(t *testing.T, with func(*agentv1.Security) *agentv1.Security) {
			p := status("NoNewPrivs")
			p.Security = with(&agentv1.Security{User: "4321", NoNewPrivileges: want})
			if out, _, _ := run(t, s, p); out != map[bool]string{false: "NoNewPrivs:\t0\n", true: "NoNewPrivs:\t1\n"}[want] {
				t.Errorf("want %v: %s", want, out)
			}
		})
	}
	// The thread that had it is gone: what the agent starts next has not.
	if out, _, _ := run(t, s, status("NoNewPrivs|Seccomp")); out != "NoNewPrivs:\t0\nSeccomp:\t0\n" {
		t.Errorf("later: %s", out)
	}
}

func TestAFilterHoldsForTheProcess(t *testing.T) {
	s := newStarter(t)
	// mkdir(2) and mkdirat(2) fail with EROFS, which nobody else would say here.
	deny := program(
		[4]uint32{unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, 0, 0, 0},
		[4]uint32{unix.BPF_JMP | unix.BPF_JEQ, 1, 0, unix.SYS_MKDIR},
		[4]uint32{unix.BPF_JMP | unix.BPF_JEQ, 0, 1, unix.SYS_MKDIRAT},
		[4]uint32{unix.BPF_RET, 0, 0, unix.SECCOMP_RET_ERRNO | uint32(unix.EROFS)},
		[4]uint32{unix.BPF_RET, 0, 0, unix.SECCOMP_RET_ALLOW},
	)
	for _, nnp := range []bool{false, true} {
		p := sh("grep ^Seccomp: /proc/self/status; mkdir " + t.TempDir() + "/x")
		p.Security = &agentv1.Security{Seccomp: deny, NoNewPrivileges: nnp}
		out, errs, exit := run(t, s, p)
		if out != "Seccomp:\t2\n" || exit.Code == 0 || !strings.Contains(errs, "Read-only") {
			t.Errorf("no_new_privs %v: %q, %q, %+v", nnp, out, errs, exit)
		}
	}
	_, err := s.Start(&agentv1.Process{Args: []string{"true"}, Security: &agentv1.Security{Seccomp: program([4]uint32{0xffff})}}, false)
	if err == nil || !strings.Contains(err.Error(), "seccomp") {
		t.Errorf("a program that is none: %v", err)
	}
}

func TestProcessesOfAContainerShareItsNamespace(t *testing.T) {
	s := newStarter(t)
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("told\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	bothWays(t, func(t *testing.T, with func(*agentv1.Security) *agentv1.Security) {
		p := sh("cat " + secret + "; touch " + secret + ".new")
		p.Namespace = t.Name()
		p.Security = with(&agentv1.Security{ReadonlyRoot: true, MaskedPaths: []string{secret}})
		for range 2 {
			if out, errs, _ := run(t, s, p); out != "" || !strings.Contains(errs, "Read-only file system") {
				t.Errorf("%q, %q", out, errs)
			}
		}
	})
	if out, _, _ := run(t, s, sh("cat "+secret)); out != "told\n" {
		t.Errorf("outside: %q", out)
	}
}
