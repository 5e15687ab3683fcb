// SPDX-License-Identifier: Apache-2.0

package process_test

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

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
