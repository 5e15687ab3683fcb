// SPDX-License-Identifier: Apache-2.0

package machine

import (
	"bytes"
	"encoding/binary"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	agentv1 "github.com/vmlet/vmlet/proto/agent/v1"
)

const (
	// maxLogins bounds how many of them are told of.
	maxLogins = 64
	// maxUtmp is the most of utmp that is read.
	maxUtmp = 1 << 20
	// userProcess is the type of a record of somebody who is logged in (utmp(5)).
	userProcess = 7
)

// utmpRecord is struct utmp of utmp(5), as glibc has it on x86_64.
type utmpRecord struct {
	Type     int16
	_        [2]byte
	PID      int32
	Line     [32]byte
	ID       [4]byte
	User     [32]byte
	Host     [256]byte
	Exit     [2]int16
	Session  int32
	Seconds  int32
	Micros   int32
	Address  [4]int32
	Reserved [20]byte
}

// logins returns who is logged in: by utmp, or in a guest that has none by what systemd-logind keeps.
func (m *Machine) logins() []*agentv1.Login {
	f, err := os.Open(m.path("run/utmp"))
	if err != nil {
		return m.sessions()
	}
	defer f.Close() //nolint:errcheck // read only
	in := io.LimitReader(f, maxUtmp)
	var all []*agentv1.Login
	for len(all) < maxLogins {
		var r utmpRecord
		if err := binary.Read(in, binary.LittleEndian, &r); err != nil {
			break
		}
		if r.Type != userProcess || !m.runs(r.PID) {
			continue
		}
		all = append(all, &agentv1.Login{
			User: cString(r.User[:]), Terminal: cString(r.Line[:]), Host: cString(r.Host[:]),
			AtUnixNano: time.Unix(int64(r.Seconds), int64(r.Micros)*1000).UnixNano(),
		})
	}
	return all
}

// runs tells whether a process is there: one that was killed leaves its record behind.
func (m *Machine) runs(pid int32) bool {
	_, err := os.Stat(m.path("proc", strconv.Itoa(int(pid))))
	return err == nil
}

func cString(b []byte) string {
	text, _, _ := bytes.Cut(b, []byte{0})
	return string(text)
}

// sessions reads the sessions of systemd-logind. Those that are no user's login are left out.
func (m *Machine) sessions() []*agentv1.Login {
	files, err := filepath.Glob(m.path("run/systemd/sessions/*"))
	if err != nil {
		return nil
	}
	var all []*agentv1.Login
	for _, file := range files[:min(len(files), maxLogins)] {
		b, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended, or is the pipe that a session holds open
		}
		v := assignments(string(b))
		if v["CLASS"] != "user" || v["STATE"] == "closing" {
			continue
		}
		micros, err := strconv.ParseInt(v["REALTIME"], 10, 64)
		if err != nil {
			micros = 0
		}
		all = append(all, &agentv1.Login{
			User: v["USER"], Terminal: v["TTY"], Host: v["REMOTE_HOST"], AtUnixNano: time.UnixMicro(micros).UnixNano(),
		})
	}
	return all
}

// assignments reads lines of KEY=value, with quotes around the value or without.
func assignments(text string) map[string]string {
	values := map[string]string{}
	for line := range strings.Lines(text) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
			values[key] = strings.Trim(value, `"'`)
		}
	}
	return values
}
