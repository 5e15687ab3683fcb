// SPDX-License-Identifier: Apache-2.0

package machine

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/containerd/errdefs"

	agentv1 "github.com/vmlet/vmlet/proto/agent/v1"
)

// content returns it in pieces, and then the error.
func content(text string, end error) func() ([]byte, error) {
	return func() ([]byte, error) {
		if text == "" {
			return nil, end
		}
		piece := text[:min(3, len(text))]
		text = text[len(piece):]
		return []byte(piece), nil
	}
}

func putFile(req *agentv1.PutFileRequest, text string) error {
	f, err := New().CreateFile(req)
	if err != nil {
		return err
	}
	if err := f.Fill(content(text, io.EOF)); err != nil {
		return errors.Join(err, f.Abandon())
	}
	return f.Commit()
}

func TestAFileTakesOnlyTheRightPlace(t *testing.T) {
	dir := t.TempDir()
	must(t, os.Mkdir(dir+"/folder", 0o700))
	must(t, os.WriteFile(dir+"/file", []byte("old"), 0o600))
	must(t, os.Symlink("file", dir+"/link"))
	must(t, syscall.Mkfifo(dir+"/pipe", 0o600))
	for path, is := range map[string]func(error) bool{
		dir + "/folder": errdefs.IsFailedPrecondition, dir + "/link": errdefs.IsFailedPrecondition, dir + "/pipe": errdefs.IsFailedPrecondition,
		dir + "/no/file": errdefs.IsNotFound, "relative": errdefs.IsInvalidArgument, dir + "/../file": errdefs.IsInvalidArgument, "/": errdefs.IsInvalidArgument,
	} {
		if err := putFile(&agentv1.PutFileRequest{Path: path, Overwrite: true}, "new"); !is(err) {
			t.Errorf("%s: %v", path, err)
		}
	}
	if err := putFile(&agentv1.PutFileRequest{Path: dir + "/file"}, "new"); !errdefs.IsAlreadyExists(err) {
		t.Errorf("got %v", err)
	}
	for _, path := range []string{dir + "/folder", dir + "/link", dir + "/pipe", "/"} {
		if part, err := New().OpenFile(&agentv1.GetFileRequest{Path: path}); path != dir+"/link" && !errdefs.IsFailedPrecondition(err) {
			t.Errorf("read %s: %v, %v", path, part, err)
		}
	}
	entries, err := os.ReadDir(dir)
	must(t, err)
	if text, err := os.ReadFile(dir + "/file"); string(text) != "old" || len(entries) != 4 {
		t.Errorf("%q, %v, %v", text, err, entries)
	}
}

// What comes into the place while the file is written is not lost.
func TestAFileThatCameMeanwhileStays(t *testing.T) {
	dir := t.TempDir()
	f, err := New().CreateFile(&agentv1.PutFileRequest{Path: dir + "/file"})
	must(t, err)
	must(t, os.WriteFile(dir+"/file", []byte("another's"), 0o600))
	if err := f.Commit(); !errdefs.IsAlreadyExists(err) {
		t.Errorf("got %v", err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("left are %v, %v", entries, err)
	}
}

// Its folder is held: who may rename it does not lead the file elsewhere.
func TestAFolderThatIsExchangedLeadsNowhere(t *testing.T) {
	dir := t.TempDir()
	must(t, os.Mkdir(dir+"/folder", 0o700))
	must(t, os.Mkdir(dir+"/target", 0o700))
	f, err := New().CreateFile(&agentv1.PutFileRequest{Path: dir + "/folder/file"})
	must(t, err)
	must(t, os.Rename(dir+"/folder", dir+"/moved"))
	must(t, os.Symlink("target", dir+"/folder"))
	must(t, f.Fill(content("text", io.EOF)))
	must(t, f.Commit())
	if entries, err := os.ReadDir(dir + "/target"); err != nil || len(entries) != 0 {
		t.Errorf("the target has %v, %v", entries, err)
	}
	if text, err := os.ReadFile(dir + "/moved/file"); string(text) != "text" {
		t.Errorf("%q, %v", text, err)
	}
}

func TestAFileThatIsAbandonedLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	f, err := New().CreateFile(&agentv1.PutFileRequest{Path: dir + "/file"})
	must(t, err)
	if info, err := os.Stat(filepath.Join(dir, f.temp)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("meanwhile others may write it: %v, %v", info, err)
	}
	lost := errors.New("lost")
	if err := f.Fill(content("half", lost)); !errors.Is(err, lost) {
		t.Errorf("got %v", err)
	}
	must(t, f.Abandon())
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
		t.Errorf("left are %v, %v", entries, err)
	}
}

func TestAFileOfTheKernelHasNoSizeAndYetContent(t *testing.T) {
	part, err := New().OpenFile(&agentv1.GetFileRequest{Path: "/proc/self/status", Offset: 2})
	must(t, err)
	defer part.Close() //nolint:errcheck // read only
	text, err := io.ReadAll(part)
	if err != nil || part.Stat.GetSize() != 0 || !strings.HasPrefix(string(text), "me:") {
		t.Errorf("%q, %v, %v", text, part.Stat, err)
	}
}

func TestLoginsAreThoseThatRun(t *testing.T) {
	record := func(kind int16, pid int32, user, line, host string) []byte {
		r := utmpRecord{Type: kind, PID: pid, Seconds: 100, Micros: 5}
		copy(r.User[:], user)
		copy(r.Line[:], line)
		copy(r.Host[:], host)
		var b bytes.Buffer
		must(t, binary.Write(&b, binary.LittleEndian, r))
		return b.Bytes()
	}
	if n := len(record(0, 0, "", "", "")); n != 384 {
		t.Fatalf("a record has %d bytes", n)
	}
	utmp := bytes.Join([][]byte{
		record(2, 0, "reboot", "~", ""), record(7, 10, "debian", "pts/0", "10.0.0.1"), record(7, 11, "gone", "pts/1", ""), record(8, 10, "dead", "pts/2", ""), {1, 2},
	}, nil)
	m := newMachine(t, map[string]string{"run/utmp": string(utmp), "proc/10/stat": ""})
	got := m.logins()
	if len(got) != 1 || got[0].GetUser() != "debian" || got[0].GetTerminal() != "pts/0" || got[0].GetHost() != "10.0.0.1" || got[0].GetAtUnixNano() != 100*1e9+5000 {
		t.Errorf("%v", got)
	}
	m = newMachine(t, map[string]string{
		"run/systemd/sessions/1": "UID=0\nUSER=root\nSTATE=active\nCLASS=user\nTTY=ttyS0\nREALTIME=7\n",
		"run/systemd/sessions/2": "USER=old\nSTATE=closing\nCLASS=user\n", "run/systemd/sessions/3": "USER=gdm\nSTATE=online\nCLASS=greeter\n",
	})
	if got := m.logins(); len(got) != 1 || got[0].GetUser() != "root" || got[0].GetTerminal() != "ttyS0" || got[0].GetAtUnixNano() != 7000 {
		t.Errorf("%v", got)
	}
}
