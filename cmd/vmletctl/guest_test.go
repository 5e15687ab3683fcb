// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestGuestInfo(t *testing.T) {
	w := newWorld(t)
	w.addPods("")
	for file, args := range map[string][]string{
		"guest-info.txt":     {"guest", "info", "web"},
		"guest-info.json":    {"guest", "info", "web", "-o", "json"},
		"guest-info-qga.txt": {"guest", "info", "db"},
	} {
		got := w.ctl(t, args...)
		got.wantOK(t)
		golden(t, file, got.stdout)
	}
	w.ctl(t, "guest", "info").wantError(t, exitUsage, "vmletctl guest info --help")
	w.ctl(t, "guest", "look").wantError(t, exitUsage, `unknown command "look"`)
	w.ctl(t, "guest", "info", "moon").wantError(t, exitFailed, `no pod "moon"`)
}

func TestGuestFileGet(t *testing.T) {
	w := newWorld(t)
	w.addPods("")
	t.Chdir(t.TempDir())
	got := w.ctl(t, "guest", "file", "get", "web", "/etc/motd", "-", "--offset", "2", "--limit", "3")
	got.wantOK(t)
	if got.stdout != "content\n" || got.stderr != "" {
		t.Errorf("got %+v", got)
	}
	if calls := w.called(); !slices.Equal(calls, []string{"ReadGuestFile " + webID + " /etc/motd 2 3"}) {
		t.Errorf("called %q", calls)
	}
	w.ctl(t, "guest", "file", "get", "web", "/etc/motd").wantOK(t)
	w.ctl(t, "guest", "file", "get", "web", "/etc/motd", "other").wantOK(t)
	for _, name := range []string{"motd", "other"} {
		if content, err := os.ReadFile(name); string(content) != "content\n" {
			t.Errorf("%s is %q, %v", name, content, err)
		}
	}
	w.ctl(t, "guest", "file", "get", "web", "/etc/motd", ".").wantError(t, exitFailed, ". is a folder")
	w.ctl(t, "guest", "file", "get", "web", "/f", "--limit", "-1").wantError(t, exitUsage, "must not be negative")
}

// What did not come whole does not take the place of what was there.
func TestGuestFileGetThatBreaksOff(t *testing.T) {
	w := newWorld(t)
	w.addPods("")
	t.Chdir(t.TempDir())
	if err := os.WriteFile("kept", []byte("as it was"), 0o600); err != nil {
		t.Fatal(err)
	}
	w.ctl(t, "guest", "file", "get", "web", "/broken", "kept").wantError(t, exitFailed, "did not come whole")
	entries, err := os.ReadDir(".")
	if err != nil || len(entries) != 1 {
		t.Errorf("left are %v, %v", entries, err)
	}
	if content, err := os.ReadFile("kept"); string(content) != "as it was" {
		t.Errorf("it is %q, %v", content, err)
	}
}

func TestGuestFilePut(t *testing.T) {
	w := newWorld(t)
	w.addPods("")
	local := filepath.Join(t.TempDir(), "local")
	large := strings.Repeat("large", 200<<10)
	if err := os.WriteFile(local, []byte(large), 0o640); err != nil {
		t.Fatal(err)
	}
	w.ctl(t, "guest", "file", "put", "web", local, "/etc/f").wantOK(t)
	if w.inside.file != large {
		t.Errorf("%d bytes came", len(w.inside.file))
	}
	w.stdin = "from stdin"
	w.ctl(t, "guest", "file", "put", "web", "-", "/etc/g").wantOK(t)
	if w.inside.file != "from stdin" {
		t.Errorf("it is %q", w.inside.file)
	}
	w.ctl(t, "guest", "file", "put", "web", "-", "/etc/h", "--mode", "4755", "--uid", "1", "--gid", "2", "--overwrite", "--parents").wantOK(t)
	want := []string{
		"WriteGuestFile " + webID + " /etc/f 0640 0:0 overwrite=false parents=false",
		"WriteGuestFile " + webID + " /etc/g 0644 0:0 overwrite=false parents=false",
		"WriteGuestFile " + webID + " /etc/h 04755 1:2 overwrite=true parents=true",
	}
	if calls := w.called(); !slices.Equal(calls, want) {
		t.Errorf("called %q", calls)
	}
	w.ctl(t, "guest", "file", "put", "web", local, "/there").wantError(t, exitFailed, "is there already")
	w.ctl(t, "guest", "file", "put", "web", "/nowhere/file", "/f").wantError(t, exitFailed, "no such file")
	w.ctl(t, "guest", "file", "put", "web", "-", "/f", "--mode", "9").wantError(t, exitUsage, "no mode such as 0644")
}

func TestGuestKeys(t *testing.T) {
	w := newWorld(t)
	w.addPods("")
	file := filepath.Join(t.TempDir(), "keys")
	if err := os.WriteFile(file, []byte("# mine\n\n ssh-ed25519 AAAA me \nssh-rsa BBBB you"), 0o600); err != nil {
		t.Fatal(err)
	}
	got := w.ctl(t, "guest", "keys", "web", "debian", "--add", file)
	got.wantOK(t)
	if want := "ssh-ed25519 AAAA me\nssh-rsa BBBB you\n"; got.stdout != want {
		t.Errorf("got %q", got.stdout)
	}
	w.stdin = "ssh-rsa CCCC they\n"
	w.ctl(t, "guest", "keys", "web", "debian", "--remove", "-").wantOK(t)
	w.ctl(t, "guest", "keys", "web", "debian", "--replace", "-").wantOK(t)
	w.stdin = ""
	w.ctl(t, "guest", "keys", "web", "debian", "--replace", "-").wantOK(t)
	got = w.ctl(t, "guest", "keys", "web", "debian", "-o", "json")
	got.wantOK(t)
	golden(t, "guest-keys.json", got.stdout)
	set := "SetAuthorizedKeys " + webID + " debian AUTHORIZED_KEYS_MODE_"
	want := []string{
		set + `ADD ["ssh-ed25519 AAAA me" "ssh-rsa BBBB you"]`, set + `REMOVE ["ssh-rsa CCCC they"]`, set + `REPLACE ["ssh-rsa CCCC they"]`, set + `REPLACE []`,
	}
	if calls := w.called(); !slices.Equal(calls, want) {
		t.Errorf("called %q", calls)
	}
	w.ctl(t, "guest", "keys", "web", "debian", "--add", "-", "--remove", "-").wantError(t, exitUsage, "it takes one")
	// What vmlet cannot do in this guest is not taken for another vmlet.
	w.ctl(t, "guest", "keys", "web", "nobody").wantError(t, exitFailed, "need a newer agent")
}

func TestGuestPasswd(t *testing.T) {
	w := newWorld(t)
	w.addPods("")
	w.stdin = "open sesame \r\nsecond line\n"
	got := w.ctl(t, "guest", "passwd", "web", "root")
	got.wantOK(t)
	if w.inside.password != "open sesame " || got.stdout+got.stderr != "" {
		t.Errorf("it is %q; %+v", w.inside.password, got)
	}
	w.stdin = "$6$salt$hash"
	w.ctl(t, "guest", "passwd", "web", "root", "--crypted").wantOK(t)
	if calls := w.called(); !slices.Equal(calls, []string{"SetGuestPassword " + webID + " root false", "SetGuestPassword " + webID + " root true"}) {
		t.Errorf("called %q", calls)
	}
	for _, stdin := range []string{"", "\n", "\r\nx"} {
		w.stdin = stdin
		w.ctl(t, "guest", "passwd", "web", "root").wantError(t, exitFailed, "the password is empty")
	}
	w.stdin = strings.Repeat("x", 3<<10) + "\n"
	w.ctl(t, "guest", "passwd", "web", "root").wantError(t, exitFailed, "read the password")
	w.ctl(t, "guest", "passwd", "web", "root", "sesame").wantError(t, exitUsage, "accepts 2 arg(s)")
}
