// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
)

// VNC is what the test makes of it.
func (v vms) VNC(stream vmletv1.VMService_VNCServer) error { return v.vnc(stream) }

func (vms) Screenshot(_ context.Context, req *vmletv1.ScreenshotRequest) (*vmletv1.ScreenshotResponse, error) {
	return &vmletv1.ScreenshotResponse{Png: []byte("a picture of " + req.GetVm()), Width: 720, Height: 400}, nil
}

func TestScreenshot(t *testing.T) {
	w := newWorld(t)
	w.addPods("")
	t.Chdir(t.TempDir())
	for file, args := range map[string][]string{
		"screenshot.txt":  {"screenshot", "web"},
		"screenshot.json": {"screenshot", "web", "other.png", "-o", "json"},
	} {
		got := w.ctl(t, args...)
		got.wantOK(t)
		want := map[string]string{
			"screenshot.txt":  "POD          FILE     SIZE\ndefault/web  web.png  720x400\n",
			"screenshot.json": "{\n  \"pod\": \"default/web\",\n  \"file\": \"other.png\",\n  \"width\": 720,\n  \"height\": 400\n}\n",
		}[file]
		if got.stdout != want {
			t.Errorf("got %q", got.stdout)
		}
	}
	for _, file := range []string{"web.png", "other.png"} {
		info, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		if text, err := os.ReadFile(file); err != nil || string(text) != "a picture of "+webID || info.Mode().Perm() != 0o600 {
			t.Errorf("%s holds %q, %v, mode %s", file, text, err, info.Mode())
		}
	}
	if got := w.ctl(t, "screenshot", "web", "-"); got != (result{stdout: "a picture of " + webID}) {
		t.Errorf("got %+v", got)
	}
	w.fail("Screenshot", codes.FailedPrecondition, "defaults.video was none")
	w.ctl(t, "screenshot", "web", filepath.Join("no", "such", "folder")).wantError(t, exitFailed, "defaults.video was none")
	w.ctl(t, "screenshot").wantError(t, exitUsage, "vmletctl screenshot --help")
}

// echoVNC greets and then says what it hears, to at most so many viewers.
func echoVNC(gone <-chan struct{}) func(vmletv1.VMService_VNCServer) error {
	return func(stream vmletv1.VMService_VNCServer) error {
		first, err := stream.Recv()
		if err != nil {
			return err
		}
		select {
		case <-gone:
			return status.Error(codes.FailedPrecondition, "no VM runs in "+first.GetVm())
		default:
		}
		for data := []byte(nil); ; {
			if err := stream.Send(&vmletv1.VNCResponse{Data: data}); err != nil {
				return err
			}
			msg, err := stream.Recv()
			if err != nil {
				return nil //nolint:nilerr // the viewer has gone
			}
			if data = msg.GetData(); string(data) == "power off" {
				return nil
			}
		}
	}
}

func TestVNCLetsOneViewerInAfterAnother(t *testing.T) {
	w := newWorld(t)
	w.addPods("")
	gone := make(chan struct{})
	w.vnc = echoVNC(gone)
	printed, out := io.Pipe()
	ended := make(chan int, 1)
	told := &glass{news: make(chan struct{}, 1)}
	a := &app{in: strings.NewReader(""), out: out, err: told, env: func(string) string { return "" }}
	go func() { ended <- a.run(t.Context(), []string{"-a", w.socket, "vnc", "web"}) }()
	line := make([]byte, 100)
	n, err := printed.Read(line)
	if err != nil {
		t.Fatal(err)
	}
	address, ok := strings.CutPrefix(strings.TrimSpace(string(line[:n])), "vnc://127.0.0.1:")
	if !ok {
		t.Fatalf("it printed %q", line[:n])
	}
	dial := func() net.Conn {
		conn, err := net.Dial("tcp", "127.0.0.1:"+address)
		if err != nil {
			t.Fatal(err)
		}
		if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
			t.Fatal(err)
		}
		return conn
	}
	for range 2 {
		viewer := dial()
		if _, err := io.WriteString(viewer, "hello"); err != nil {
			t.Fatal(err)
		}
		heard := make([]byte, len("hello"))
		if _, err := io.ReadFull(viewer, heard); err != nil || string(heard) != "hello" {
			t.Errorf("heard %q, %v", heard, err)
		}
		if err := viewer.Close(); err != nil {
			t.Error(err)
		}
	}
	viewer := dial()
	close(gone)
	if _, err := io.WriteString(viewer, "power off"); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(viewer); len(rest) > 0 {
		t.Errorf("heard %q, %v", rest, err)
	}
	if code := <-ended; code != exitFailed || !strings.Contains(told.String(), "no VM runs in "+webID) {
		t.Errorf("exit %d: %s", code, told.String())
	}
}

// onWrite is called when something is written.
type onWrite func()

func (f onWrite) Write(b []byte) (int, error) { f(); return len(b), nil }

func TestVNCThatCannotBe(t *testing.T) {
	w := newWorld(t)
	w.addPods("")
	w.fail("VNC", codes.FailedPrecondition, "VNC is off on this node: set defaults.vnc")
	got := w.ctl(t, "vnc", "web")
	got.wantError(t, exitFailed, "set defaults.vnc")
	if got.stdout != "" {
		t.Errorf("it listens all the same: %q", got.stdout)
	}
	w.ctl(t, "vnc", "web", "--listen", "0.0.0.0:5900").wantError(t, exitUsage, "not on loopback")
	w.ctl(t, "vnc", "web", "--listen", "5900").wantError(t, exitUsage, "not IP:PORT")
	w.ctl(t, "vnc", "moon").wantError(t, exitFailed, `no pod "moon"`)
	w.vnc = echoVNC(nil)
	w.on("VNC", func(context.Context) error { return nil })
	ctx, cancel := context.WithCancel(t.Context())
	a := &app{in: strings.NewReader(""), out: onWrite(cancel), err: io.Discard, env: func(string) string { return "" }}
	if code := a.run(ctx, []string{"-a", w.socket, "vnc", "web"}); code != exitOK { // Ctrl-C is its end
		t.Errorf("exit %d", code)
	}
}
