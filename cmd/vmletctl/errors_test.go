// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"google.golang.org/grpc/codes"
)

func TestACommandLineThatIsWrongIsSaidSo(t *testing.T) {
	w := &world{socket: "/nowhere"} // nothing of it may get as far as that
	for line, wants := range map[string][]string{
		"pss":                                  {`unknown command "pss"`, "did you mean ps", "vmletctl --help"},
		"image pul x":                          {`unknown command "pul"`, "did you mean pull", "vmletctl image --help"},
		"ps --nope":                            {"unknown flag: --nope", "vmletctl ps --help"},
		"--nope ps":                            {"unknown flag: --nope", "vmletctl --help"},
		"ps web":                               {"vmletctl ps"},
		"ps -o xml":                            {"none of table, json, yaml"},
		"run":                                  {"vmletctl run --help"},
		"run x --pull now":                     {"none of always, missing, never"},
		"exec web":                             {"--", "vmletctl exec --help"},
		"exec web uname":                       {"--"},
		"exec web uname -- -a":                 {"--"},
		"exec -- web uname":                    {"--"},
		"stop":                                 {"vmletctl stop --help"},
		"stop -t -1 web":                       {"negative", "vmletctl stop --help"},
		"rm":                                   {"vmletctl rm --help"},
		"image import x":                       {"vmletctl image import --help"},
		"run x --annotation memory":            {"KEY=VALUE", "vmletctl run --help"},
		"run x --cpus 2 --annotation " + twice: {annotationVCPUs, "vmletctl run --help"},
	} {
		t.Run(line, func(t *testing.T) {
			got := w.ctl(t, strings.Fields(line)...)
			got.wantError(t, exitUsage, wants...)
			if got.stdout != "" {
				t.Errorf("stdout: %q", got.stdout)
			}
		})
	}
}

const twice = annotationVCPUs + "=3"

func TestASocketThatCannotBeUsed(t *testing.T) {
	folder := socketFolder(t)
	file := filepath.Join(folder, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for title, tc := range map[string]struct {
		address string
		want    string
	}{
		"absent":        {filepath.Join(folder, "absent"), "vmlet is not running at " + filepath.Join(folder, "absent") + "; start it"},
		"told as a URL": {"unix://" + filepath.Join(folder, "absent"), "vmlet is not running at " + folder},
		"nobody's":      {file, "nobody listens at " + file},
		"not a name":    {folder + strings.Repeat("x", 200), "cannot connect to"},
	} {
		t.Run(title, func(t *testing.T) {
			w := &world{}
			for _, args := range [][]string{{"ps"}, {"image", "pull", "x"}, {"image", "import", "-", "x"}, {"doctor"}} {
				w.ctl(t, append([]string{"--address", tc.address}, args...)...).wantError(t, exitFailed, tc.want, "--address")
			}
		})
	}
}

func TestASocketWithoutPermissionNamesTheGroup(t *testing.T) {
	socket := filepath.Join(socketFolder(t), "vmlet.sock")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close() //nolint:errcheck // nobody connected
	denied := &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.EACCES)}
	for mode, want := range map[fs.FileMode]string{0o660: groupAdvice(), 0o600: "run vmletctl as root"} {
		if err := os.Chmod(socket, mode); err != nil {
			t.Fatal(err)
		}
		if got := notConnected(socket, denied); !strings.Contains(got, "no permission to use "+socket) || !strings.HasSuffix(got, want) {
			t.Errorf("mode %o: got %q, want %q at its end", mode, got, want)
		}
	}
	if got := notConnected("/closed/vmlet.sock", denied); !strings.HasSuffix(got, "run vmletctl as root") {
		t.Errorf("got %q", got)
	}
}

// groupAdvice is what is advised for a socket of this process's group.
func groupAdvice() string {
	if os.Getgid() == 0 {
		return "run vmletctl as root"
	}
	return "and log in again)"
}

func TestTheMembersOfAGroupAreNamed(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root gives files to other groups")
	}
	file := filepath.Join(t.TempDir(), "vmlet.sock")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(file, 0o660); err != nil {
		t.Fatal(err)
	}
	for gid, want := range map[int]string{1: "the group daemon (usermod -aG daemon USER", 54321: "the group 54321"} {
		if err := os.Chown(file, 0, gid); err != nil {
			t.Fatal(err)
		}
		if got := whoMay(file); !strings.Contains(got, want) {
			t.Errorf("got %q, want %q in it", got, want)
		}
	}
}

func TestWhatVmletSaysIsPassedOnInOneLine(t *testing.T) {
	w := newWorld(t)
	w.fail("ListPodSandbox", codes.Unavailable, "vmlet is starting:\n libvirt does not answer\n")
	w.ctl(t, "ps").wantError(t, exitFailed, "vmletctl: vmlet is starting:; libvirt does not answer\n")
}

func TestAnotherServersSocketIsSaidSo(t *testing.T) {
	w := newWorld(t)
	w.fail("Doctor", codes.Unimplemented, "unknown service")
	w.ctl(t, "doctor").wantError(t, exitFailed, w.socket+" does not serve /vmlet.v1.NodeService/Doctor", "vmletctl version")
}

func TestAServerThatGoesAwayIsSaidSo(t *testing.T) {
	socket := filepath.Join(socketFolder(t), "vmlet.sock")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			conn.Close() //nolint:errcheck // it is to break off
		}
	}()
	defer listener.Close() //nolint:errcheck // the test is over
	w := &world{socket: socket}
	w.ctl(t, "ps").wantError(t, exitFailed, "vmlet went away from "+socket, "vmletctl ps -a")
}

func TestTimeoutAndInterruption(t *testing.T) {
	w := newWorld(t)
	begun := make(chan struct{}, 1)
	w.on("ListPodSandbox", func(ctx context.Context) error {
		begun <- struct{}{}
		<-ctx.Done()
		return ctx.Err()
	})
	w.ctl(t, "ps", "--timeout", "20ms").wantError(t, exitFailed, "did not answer in time", "--timeout")
	<-begun

	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-begun
		cancel()
	}()
	w.ctlWithin(ctx, "ps").wantError(t, exitFailed, "vmletctl: interrupted\n")
}

func TestOneLine(t *testing.T) {
	err := errors.Join(errors.New("one"), errors.New("two\r\n  three"))
	if got := oneLine(err.Error()); got != "one; two; three" {
		t.Errorf("got %q", got)
	}
}
