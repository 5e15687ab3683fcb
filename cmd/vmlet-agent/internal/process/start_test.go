// SPDX-License-Identifier: Apache-2.0

package process_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"github.com/vmlet/vmlet/cmd/vmlet-agent/internal/guesttest"
	"github.com/vmlet/vmlet/cmd/vmlet-agent/internal/mountns"
	"github.com/vmlet/vmlet/cmd/vmlet-agent/internal/process"
	agentv1 "github.com/vmlet/vmlet/proto/agent/v1"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == process.Stage2Arg {
		os.Exit(process.Stage2())
	}
	guesttest.Run(m.Run)
}

func newStarter(t *testing.T) *process.Starter {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("the agent is root")
	}
	s, err := process.NewStarter(mountns.NewSet())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func sh(script string) *agentv1.Process {
	return &agentv1.Process{Args: []string{"sh", "-c", script}}
}

// run runs a process to its end.
func run(t *testing.T, s *process.Starter, p *agentv1.Process) (stdout, stderr string, exit process.Exit) {
	t.Helper()
	proc, err := s.Start(p, false)
	if err != nil {
		t.Fatalf("%v: %v", p.GetArgs(), err)
	}
	outc := make(chan string, 1)
	go func() { b, _ := io.ReadAll(proc.Stdout); outc <- string(b) }() //nolint:errcheck // what came is compared
	if proc.Stderr != nil {
		b, err := io.ReadAll(proc.Stderr)
		if err != nil {
			t.Error(err)
		}
		stderr = string(b)
	}
	return <-outc, stderr, proc.Exit()
}

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

func TestOutputErrorsAndExitCodeAreTheProcess(t *testing.T) {
	s := newStarter(t)
	out, errs, exit := run(t, s, sh("echo out; echo err >&2; exit 7"))
	if out != "out\n" || errs != "err\n" || exit.Code != 7 || exit.Signal != 0 {
		t.Errorf("%q, %q, %+v", out, errs, exit)
	}
	if _, _, exit := run(t, s, sh("kill -TERM $$")); exit.Code != 143 || exit.Signal != 15 {
		t.Errorf("killed by SIGTERM: %+v", exit)
	}
}

func TestAProcessStartsAsOnAnyMachine(t *testing.T) {
	s := newStarter(t)
	out, _, _ := run(t, s, sh(`pwd; echo "$HOME $PATH $TERM"; umask; cat; cat /proc/self/oom_score_adj; ps -o pid=,sid= $$ | awk '{ print $1 == $2 }'`))
	want := "/root\n/root /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \n0022\n0\n1\n"
	if out != want {
		t.Errorf("got %q, want %q", out, want)
	}
}

func TestEnvironmentAndFolderAreTheRequests(t *testing.T) {
	s := newStarter(t)
	dir := t.TempDir()
	program := filepath.Join(dir, "program")
	if err := os.WriteFile(program, []byte("#!/bin/sh\n/bin/pwd\necho $A $HOME\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	made := filepath.Join(dir, "made", "for", "it")
	out, errs, _ := run(t, s, &agentv1.Process{
		Args: []string{"program"}, Cwd: made, Env: []string{"A=a", "HOME=/h", "PATH=" + dir}, Security: &agentv1.Security{},
	})
	if want := made + "\na /h\n"; out != want {
		t.Errorf("got %q, want %q; %s", out, want, errs)
	}
	if out, _, _ := run(t, s, &agentv1.Process{Args: []string{"pwd"}, Security: &agentv1.Security{}}); out != "/\n" {
		t.Errorf("a container without a folder starts in %q", out)
	}
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

func TestWhatCannotBeStartedSaysWhyAsAShellDoes(t *testing.T) {
	s := newStarter(t)
	dir := t.TempDir()
	for file, mode := range map[string]os.FileMode{"plain": 0o644, "script": 0o755, "roots": 0o700} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte("#!/no/such/interpreter\n"), mode); err != nil {
			t.Fatal(err)
		}
	}
	tests := map[string]struct {
		program string
		user    string
		code    int32
		words   string
	}{
		"not in PATH":      {"no-such-program", "", 127, "no-such-program"},
		"not there":        {"/no/such/program", "", 127, "/no/such/program"},
		"a folder":         {dir, "", 126, "permission denied"},
		"not a program":    {dir + "/plain", "", 126, "permission denied"},
		"not the user's":   {dir + "/roots", "4321", 126, "permission denied"},
		"no interpreter":   {dir + "/script", "", 127, "no such file"},
		"below a non-dir":  {dir + "/plain/x", "", 127, "not a directory"},
		"only a directory": {"/", "", 126, "permission denied"},
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			bothWays(t, func(t *testing.T, with func(*agentv1.Security) *agentv1.Security) {
				_, err := s.Start(&agentv1.Process{Args: []string{tt.program}, Security: with(&agentv1.Security{User: tt.user})}, false)
				var e *process.Error
				if !errors.As(err, &e) || e.Code != tt.code || !strings.Contains(e.Error(), tt.words) {
					t.Errorf("%v: %+v", err, e)
				}
			})
		})
	}
}

func TestBadRequestsAreRefused(t *testing.T) {
	s := newStarter(t)
	for name, p := range map[string]*agentv1.Process{
		"no program":          {},
		"an empty name":       {Args: []string{""}},
		"a NUL":               {Args: []string{"true", "a\x00b"}},
		"unknown capability":  {Args: []string{"true"}, Security: &agentv1.Security{LimitCapabilities: true, Capabilities: []string{"CAP_FLY"}}},
		"ambient beyond":      {Args: []string{"true"}, Security: &agentv1.Security{LimitCapabilities: true, AmbientCapabilities: []string{"CAP_CHOWN"}}},
		"half a filter":       {Args: []string{"true"}, Security: &agentv1.Security{Seccomp: make([]byte, 12)}},
		"the ID for no ID":    {Args: []string{"true"}, Security: &agentv1.Security{User: "4294967295"}},
		"a group by name":     {Args: []string{"true"}, Security: &agentv1.Security{Group: "wheel"}},
		"masks but no ground": {Args: []string{"true"}, Security: &agentv1.Security{MaskedPaths: []string{"/proc/kcore"}}},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := s.Start(p, false); !errors.Is(err, fs.ErrInvalid) {
				t.Error(err)
			}
		})
	}
}

func TestStandardFilesBelongToTheUser(t *testing.T) {
	s := newStarter(t)
	for _, tty := range []bool{false, true} {
		p := sh("echo out >/dev/stdout; echo err >/dev/stderr")
		p.Security, p.Tty = &agentv1.Security{User: "4321"}, tty
		if out, errs, exit := runTTY(t, s, p); !strings.Contains(out+errs, "out") || !strings.Contains(out+errs, "err") || exit.Code != 0 {
			t.Errorf("tty %v: %q, %q, %+v", tty, out, errs, exit)
		}
	}
}

// runTTY is run for a process that may have a terminal.
func runTTY(t *testing.T, s *process.Starter, p *agentv1.Process) (stdout, stderr string, exit process.Exit) {
	t.Helper()
	if !p.GetTty() {
		return run(t, s, p)
	}
	proc, err := s.Start(p, false)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(proc.Stdout)
	if err != nil {
		t.Errorf("the terminal ended with %v", err)
	}
	return string(b), "", proc.Exit()
}

func TestATerminalIsTheProcessesOwn(t *testing.T) {
	s := newStarter(t)
	p := sh("tty; stty size; read line; stty size; echo got $line; ps -o tpgid= $$")
	p.Tty, p.Size = true, &agentv1.TerminalSize{Width: 81, Height: 25}
	proc, err := s.Start(p, true)
	if err != nil {
		t.Fatal(err)
	}
	if err := proc.Resize(100, 1<<20); err != nil {
		t.Fatal(err)
	}
	if _, err := proc.Stdin.WriteString("hello\n"); err != nil {
		t.Fatal(err)
	}
	b, _ := io.ReadAll(proc.Stdout) //nolint:errcheck // a terminal may end by an error
	if out := string(b); !strings.Contains(out, "/dev/pts/") || !strings.Contains(out, "65535 100") || !strings.Contains(out, "got hello") {
		t.Errorf("%q", out)
	}
	if e := proc.Exit(); e.Code != 0 {
		t.Errorf("%+v", e)
	}
}

func TestKillFindsAllOfTheSession(t *testing.T) {
	s := newStarter(t)
	for _, end := range []string{"wait", "exit 0"} {
		// One in a process group of its own, one whose parent is gone.
		proc, err := s.Start(sh("set -m; sleep 1000 & (sleep 1001 & ); echo ready; "+end), false)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(proc.Stdout, make([]byte, 6)); err != nil {
			t.Fatal(err)
		}
		if end != "wait" {
			<-proc.Done()
		}
		if err := proc.Kill(); err != nil {
			t.Fatal(err)
		}
		// The pipe ends when the last one has gone that holds it.
		if err := proc.Stdout.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(proc.Stdout); err != nil {
			t.Errorf("%s: %v", end, err)
		}
		if e := proc.Exit(); end == "wait" && e.Signal != 9 {
			t.Errorf("%+v", e)
		}
		if err := proc.Signal(syscall.SIGTERM); !errors.Is(err, os.ErrProcessDone) {
			t.Errorf("a signal to what is gone: %v", err)
		}
		if err := proc.Kill(); err != nil {
			t.Errorf("once more: %v", err)
		}
	}
}

func TestProcessesAreBounded(t *testing.T) {
	s := newStarter(t)
	var procs []*process.Process
	for range process.Max {
		p, err := s.Start(&agentv1.Process{Args: []string{"sleep", "1000"}}, false)
		if err != nil {
			t.Fatal(err)
		}
		procs = append(procs, p)
	}
	if _, err := s.Start(sh("true"), false); !errors.Is(err, process.ErrTooMany) {
		t.Errorf("one more: %v", err)
	}
	for _, p := range procs {
		if err := p.Kill(); err != nil {
			t.Error(err)
		}
		p.Exit()
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

// A process in the background holds the pipe, and writes to it all the time.
func TestFinishedOutputEndsWithWhatWasThere(t *testing.T) {
	s := newStarter(t)
	for _, tty := range []bool{false, true} {
		p := sh(`trap "" HUP; (while sleep 0.01; do echo later; done) & seq 1 1000; echo done`)
		p.Tty = tty
		proc, err := s.Start(p, false)
		if err != nil {
			t.Fatal(err)
		}
		got := make(chan string)
		go func() {
			// Slower than the process: what it wrote is still in the pipe when it ends.
			<-proc.Done()
			b, err := io.ReadAll(proc.Stdout)
			if err != nil {
				t.Error(err)
			}
			got <- string(b)
		}()
		<-proc.Done()
		proc.Stdout.Finish()
		if out := <-got; !strings.Contains(out, "1000") || !strings.Contains(out, "done") {
			t.Errorf("tty %v: %d bytes: %q", tty, len(out), out[max(0, len(out)-100):])
		}
		if err := proc.Kill(); err != nil {
			t.Error(err)
		}
	}
}

func TestADeadlineDoesNotEndOutput(t *testing.T) {
	s := newStarter(t)
	proc, err := s.Start(sh("read line; echo $line"), true)
	if err != nil {
		t.Fatal(err)
	}
	if err := proc.Stdout.SetReadDeadline(time.Now()); err != nil {
		t.Fatal(err)
	}
	if _, err := proc.Stdout.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	if err := proc.Stdout.SetReadDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	if _, err := proc.Stdin.WriteString("line\n"); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(proc.Stdout); string(b) != "line\n" || err != nil {
		t.Errorf("%q, %v", b, err)
	}
}
