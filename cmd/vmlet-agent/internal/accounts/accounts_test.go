// SPDX-License-Identifier: Apache-2.0

package accounts

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/cmd/vmlet-agent/internal/guesttest"
	agentv1 "github.com/vmlet/vmlet/proto/agent/v1"
)

func TestMain(m *testing.M) { guesttest.Run(m.Run) }

const (
	keyA = "ssh-ed25519 AAAAaaaa a@host"
	keyB = "ssh-ed25519 AAAAbbbb b@host"
)

func newUser(t *testing.T) guesttest.Account {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("the agent is root")
	}
	return guesttest.User(t)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func add(user string, keys ...string) error {
	return Accounts{}.SetKeys(&agentv1.SetKeysRequest{User: user, Lines: keys, Mode: agentv1.SetKeysRequest_ADD})
}

func remove(user string, keys ...string) error {
	return Accounts{}.SetKeys(&agentv1.SetKeysRequest{User: user, Lines: keys, Mode: agentv1.SetKeysRequest_REMOVE})
}

func TestKeysAreTheUsersAndAsSSHDWantsThem(t *testing.T) {
	u := newUser(t)
	must(t, add(u.Name, keyA))
	must(t, os.Chmod(u.Home+"/.ssh", 0o777))
	must(t, add(u.Name, keyB))
	for path, want := range map[string]os.FileMode{".ssh": 0o755, keysFile: 0o600} {
		info, err := os.Stat(filepath.Join(u.Home, path))
		must(t, err)
		st, ok := info.Sys().(*syscall.Stat_t)
		if !ok || int(st.Uid) != u.UID || int(st.Gid) != u.GID || info.Mode().Perm() != want {
			t.Errorf("%s: %v of %d:%d", path, info.Mode(), st.Uid, st.Gid)
		}
	}
	if entries, err := os.ReadDir(u.Home + "/.ssh"); err != nil || len(entries) != 1 {
		t.Errorf("left are %v, %v", entries, err)
	}
}

func TestLinesThatAreNoKeysStay(t *testing.T) {
	u := newUser(t)
	must(t, add(u.Name, keyA))
	path := filepath.Join(u.Home, keysFile)
	content := "# of " + keyA + "\n\nfrom=\"10.0.0.0/8\" " + keyA + "\nno end " + keyB
	must(t, os.WriteFile(path, []byte(content), 0o600))
	if got, err := (Accounts{}).Keys(u.Name); err != nil || !slices.Equal(got, []string{`from="10.0.0.0/8" ` + keyA, "no end " + keyB}) {
		t.Errorf("%q, %v", got, err)
	}
	must(t, add(u.Name, "ssh-ed25519 AAAAaaaa with another comment", "ssh-ed25519 AAAAcccc"))
	if got, err := os.ReadFile(path); string(got) != content+"\nssh-ed25519 AAAAcccc\n" {
		t.Errorf("%q, %v", got, err)
	}
	must(t, remove(u.Name, keyA, "ssh-ed25519 AAAAcccc"))
	if got, err := os.ReadFile(path); string(got) != "# of "+keyA+"\n\nno end "+keyB+"\n" {
		t.Errorf("%q, %v", got, err)
	}
}

// A user who owns a home may put anything into it. The agent, which is root, must not be led to write, or to read for the
// user, what the user cannot.
func TestAHostileHomeLeadsNowhere(t *testing.T) {
	for title, trap := range map[string]func(t *testing.T, home, outside string) error{
		"the folder is a link out of the home": func(_ *testing.T, home, outside string) error {
			return os.Symlink(outside, home+"/.ssh")
		},
		"the folder is a link that climbs": func(_ *testing.T, home, outside string) error {
			return os.Symlink("../../../../../.."+outside, home+"/.ssh")
		},
		"the file is a link out of the home": func(t *testing.T, home, outside string) error {
			must(t, os.Mkdir(home+"/.ssh", 0o777))
			return os.Symlink(outside+"/secret", home+"/.ssh/authorized_keys")
		},
		"the file is root's, which the user cannot read": func(t *testing.T, home, outside string) error {
			must(t, os.Mkdir(home+"/.ssh", 0o777))
			return os.Link(outside+"/secret", home+"/.ssh/authorized_keys")
		},
		"the folder is root's": func(_ *testing.T, home, _ string) error { return os.Mkdir(home+"/.ssh", 0o755) },
		"the file is a pipe": func(t *testing.T, home, _ string) error {
			must(t, os.Mkdir(home+"/.ssh", 0o777))
			must(t, os.Chmod(home+"/.ssh", 0o777))
			return syscall.Mkfifo(home+"/.ssh/authorized_keys", 0o666)
		},
		"the folder is a file": func(_ *testing.T, home, _ string) error { return os.WriteFile(home+"/.ssh", nil, 0o666) },
		"the home is another's": func(t *testing.T, home, _ string) error {
			must(t, os.Chmod(home, 0o700))
			return os.Chown(home, 0, 0)
		},
	} {
		t.Run(title, func(t *testing.T) {
			u := newUser(t)
			outside, err := os.MkdirTemp("/tmp", "outside") //nolint:usetesting // it is to be on the home's file system
			must(t, err)
			defer func() { must(t, os.RemoveAll(outside)) }()
			must(t, os.Chmod(outside, 0o755))
			must(t, os.WriteFile(outside+"/secret", []byte("secret\n"), 0o600))
			must(t, trap(t, u.Home, outside))
			if err := add(u.Name, keyA); !errdefs.IsFailedPrecondition(err) {
				t.Errorf("got %v", err)
			}
			entries, err := os.ReadDir(outside)
			must(t, err)
			content, err := os.ReadFile(outside + "/secret")
			must(t, err)
			if len(entries) != 1 || string(content) != "secret\n" {
				t.Errorf("outside there are %v, and %q", entries, content)
			}
		})
	}
}

func TestALinkWithinTheHomeIsFollowed(t *testing.T) {
	u := newUser(t)
	must(t, os.Mkdir(u.Home+"/dotfiles", 0o700))
	must(t, os.Chown(u.Home+"/dotfiles", u.UID, u.GID))
	must(t, os.Symlink("dotfiles", u.Home+"/.ssh"))
	must(t, add(u.Name, keyA))
	if got, err := os.ReadFile(u.Home + "/dotfiles/authorized_keys"); string(got) != keyA+"\n" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestKeysThatAreNone(t *testing.T) {
	u := newUser(t)
	for title, req := range map[string]*agentv1.SetKeysRequest{
		"no mode":   {User: u.Name, Lines: []string{keyA}},
		"two lines": {User: u.Name, Lines: []string{keyA + "\n" + keyB}, Mode: agentv1.SetKeysRequest_ADD},
		"blank":     {User: u.Name, Lines: []string{" "}, Mode: agentv1.SetKeysRequest_ADD},
		"too much":  {User: u.Name, Lines: []string{strings.Repeat("x", maxContent)}, Mode: agentv1.SetKeysRequest_ADD},
		"a path":    {User: "../" + u.Name, Mode: agentv1.SetKeysRequest_ADD},
	} {
		if err := (Accounts{}).SetKeys(req); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%s: %v", title, err)
		}
	}
	if err := add("no-such-user", keyA); !errdefs.IsNotFound(err) {
		t.Error(err)
	}
}

// chpasswd makes a program of that name which runs a script, and returns where the script may leave something.
func chpasswd(t *testing.T, script string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	must(t, os.WriteFile(dir+"/chpasswd", []byte("#!/bin/sh\ncd "+dir+"\n"+script), 0o700))
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	return dir
}

func set(u, password string, crypted bool) error {
	ctx, cancel := context.WithCancel(context.Background())
	cancel() // a caller who goes away does not end it half done
	return Accounts{}.SetPassword(ctx, &agentv1.SetPasswordRequest{User: u, Password: password, Crypted: crypted})
}

func TestAPasswordGoesToChpasswdByAPipe(t *testing.T) {
	u := newUser(t)
	dir := chpasswd(t, `echo "$@" >args; cat /proc/$$/environ >env; cat >in`)
	for _, tc := range []struct {
		crypted bool
		args    string
	}{{false, "\n"}, {true, "-e\n"}} {
		must(t, set(u.Name, "open sesame", tc.crypted))
		in, errIn := os.ReadFile(dir + "/in")
		args, errArgs := os.ReadFile(dir + "/args")
		env, errEnv := os.ReadFile(dir + "/env")
		must(t, errIn)
		must(t, errArgs)
		must(t, errEnv)
		if string(in) != u.Name+":open sesame\n" || string(args) != tc.args || strings.Contains(string(env), "sesame") {
			t.Errorf("in %q, arguments %q", in, args)
		}
	}
}

func TestAPasswordIsInNoError(t *testing.T) {
	u := newUser(t)
	chpasswd(t, `cat; exit 3`)
	err := set(u.Name, "sesame", false)
	if !errdefs.IsFailedPrecondition(err) || strings.Contains(err.Error(), "sesame") || !strings.Contains(err.Error(), "exit status 3") {
		t.Errorf("got %v", err)
	}
	chpasswd(t, `echo too weak >&2; exit 1`)
	if err := set(u.Name, "sesame", false); err == nil || !strings.Contains(err.Error(), "too weak") {
		t.Errorf("got %v", err)
	}
	for _, password := range []string{"", "sesame\nroot:x", strings.Repeat("sesame", 200)} {
		if err := set(u.Name, password, false); !errdefs.IsInvalidArgument(err) || password != "" && strings.Contains(err.Error(), password) {
			t.Errorf("got %v", err)
		}
	}
	if err := set("no-such-user", "sesame", false); !errdefs.IsNotFound(err) {
		t.Error(err)
	}
	if err := set(u.Name, "sesame:x", true); !errdefs.IsInvalidArgument(err) {
		t.Error(err)
	}
}
