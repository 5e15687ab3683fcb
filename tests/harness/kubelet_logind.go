// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
)

// Logind is a message bus with as much of systemd-logind on it as kubelet talks to: org.freedesktop.login1(5).
type Logind struct {
	// Address is the bus's, for DBUS_SYSTEM_BUS_ADDRESS.
	Address string

	conn *dbus.Conn
	mu   sync.Mutex
	held []chan struct{}
}

const (
	logindName   = "org.freedesktop.login1"
	logindObject = dbus.ObjectPath("/org/freedesktop/login1")
	logindIface  = logindName + ".Manager"
)

// StartLogind starts a bus of its own, and logind on it, whose inhibitors may delay a shutdown for so long.
func StartLogind(t *testing.T, delay time.Duration) *Logind {
	t.Helper()
	l := &Logind{Address: startBus(t)}
	conn, err := dbus.Connect(l.Address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() }) //nolint:errcheck // the bus ends with the test
	l.conn = conn
	for iface, methods := range map[string]any{
		logindIface:                       manager{l},
		"org.freedesktop.DBus.Properties": properties{uint64(delay.Microseconds())},
	} {
		if err := conn.Export(methods, logindObject, iface); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := conn.RequestName(logindName, dbus.NameFlagDoNotQueue); err != nil {
		t.Fatal(err)
	}
	return l
}

// startBus starts a dbus-daemon as open as a test needs, and returns its address.
func startBus(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	config := filepath.Join(dir, "bus.conf")
	text := fmt.Sprintf(`<busconfig><type>system</type><listen>unix:path=%s/bus</listen><auth>EXTERNAL</auth>
<policy context="default"><allow user="*"/><allow own="*"/><allow send_destination="*"/><allow receive_sender="*"/></policy></busconfig>`, dir)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("dbus-daemon", "--nofork", "--nopidfile", "--nosyslog", "--print-address", "--config-file="+config) //nolint:noctx // until the test's end
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() //nolint:errcheck // it may have ended
		_ = cmd.Wait()         //nolint:errcheck // it was killed
	})
	address, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("dbus-daemon gave no address: %v", err)
	}
	return strings.TrimSpace(address)
}

// PrepareForShutdown tells that the node goes down, or that it does not after all.
func (l *Logind) PrepareForShutdown(goesDown bool) error {
	return l.conn.Emit(logindObject, logindIface+".PrepareForShutdown", goesDown)
}

// Held is the number of inhibitors that were taken.
func (l *Logind) Held() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.held)
}

// Released is closed when the last inhibitor that was taken is released.
func (l *Logind) Released() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.held[len(l.held)-1]
}

// manager is org.freedesktop.login1.Manager.
type manager struct{ l *Logind }

// Inhibit hands out the end of a pipe: who took the inhibitor has released it when the other end is at its end.
func (m manager) Inhibit(_, _, _, _ string) (dbus.UnixFD, *dbus.Error) {
	r, w, err := os.Pipe()
	if err != nil {
		return 0, dbus.MakeFailedError(err)
	}
	released := make(chan struct{})
	m.l.mu.Lock()
	m.l.held = append(m.l.held, released)
	m.l.mu.Unlock()
	go func() {
		defer close(released)
		_, _ = r.Read(make([]byte, 1)) //nolint:errcheck // its end is what this waits for
		_ = r.Close()                  //nolint:errcheck // read only
	}()
	// The reply has a duplicate, and is sent after this returns.
	time.AfterFunc(time.Second, func() { _ = w.Close() }) //nolint:errcheck // nothing was written
	return dbus.UnixFD(w.Fd()), nil
}

// properties is org.freedesktop.DBus.Properties with the one that kubelet reads.
type properties struct{ delay uint64 }

// Get implements the interface.
func (p properties) Get(_, name string) (dbus.Variant, *dbus.Error) {
	if name != "InhibitDelayMaxUSec" {
		return dbus.Variant{}, dbus.MakeFailedError(fmt.Errorf("there is no property %s", name))
	}
	return dbus.MakeVariant(p.delay), nil
}
