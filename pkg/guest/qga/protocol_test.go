// SPDX-License-Identifier: Apache-2.0

package qga

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/containerd/errdefs"
)

func TestDecodeTakesWhatAgentsAnswer(t *testing.T) {
	var status execStatus
	answer := `{"return": {"exited": true, "exitcode": 3, "out-data": "aGkK", "out-truncated": false, "of-a-newer-agent": [1]}}`
	if err := decode([]byte(answer), &status); err != nil {
		t.Fatal(err)
	}
	if !*status.Exited || status.code() != 3 || string(status.Stdout) != "hi\n" || status.Stderr != nil {
		t.Errorf("got %+v", status)
	}
	status = execStatus{}
	if err := decode([]byte(`{"return":{"exited":true,"signal":15}}`), &status); err != nil || status.code() != 143 {
		t.Errorf("got %+v, %v", status, err)
	}
}

func TestDecodeRefusesNonsense(t *testing.T) {
	for _, answer := range []string{
		"", "null", "[]", "1", `"x"`, "{}", `{"return":null}`, `{"return":[]}`, `{"return":{}}`, `{"return":{"exited":"yes"}}`,
		`{"return":{"exited":true,"exitcode":-1}}`, `{"return":{"exited":true,"exitcode":256}}`,
		`{"return":{"exited":true,"exitcode":1e99}}`, `{"return":{"exited":true,"signal":-9}}`,
		`{"return":{"exited":true,"signal":200}}`, `{"return":{"exited":true,"out-data":"?"}}`,
		`{"return":{"exited":true,"out-truncated":true}}`, `{"return":{"exited":true}}{}`, `{"return":{"exited":true}`,
		`{"return":{"exited":true,"out-data":"` + strings.Repeat("AAAA", maxAnswer/4) + `"}}`,
	} {
		var status execStatus
		if err := decode([]byte(answer), &status); !errdefs.IsInternal(err) {
			t.Errorf("%.60s: %+v, %v", answer, status, err)
		}
	}
	for _, answer := range []string{`{"return":{"pid":0}}`, `{"return":{"pid":-1}}`, `{"return":{"pid":1}}`, `{"return":{}}`} {
		var started execStarted
		if err := decode([]byte(answer), &started); !errdefs.IsInternal(err) {
			t.Errorf("%s: %+v, %v", answer, started, err)
		}
	}
}

func TestAnAgentsWordsAreMadeFitForALog(t *testing.T) {
	answer := `{"error":{"class":"GenericError","desc":"a\nb\u0000c\u001b[31m ` + strings.Repeat("é", 1000) + `"}}`
	err := decode([]byte(answer), nil)
	if err == nil || len(err.Error()) > 300 || strings.ContainsAny(err.Error(), "\n\x00\x1b") || !utf8.ValidString(err.Error()) {
		t.Errorf("got %q", err)
	}
}

func TestParseReportRefusesNonsense(t *testing.T) {
	const tag = "vmlet-0"
	for _, out := range []string{
		"", "\n", "\n\n", "vmlet-0 0 0\n", "\nvmlet-0 0 0", "\nvmlet-1 0 0\n", "\nvmlet-0\n", "\nvmlet-0 0\n", "\nvmlet-0 0 0 0\n",
		"\nvmlet-0 256 0\n", "\nvmlet-0 -1 0\n", "\nvmlet-0 x 0\n", "\nvmlet-0 0 2\n", "\nvmlet-0 nothing\n",
	} {
		if data, r, err := parseReport([]byte(out), tag); !errdefs.IsInternal(err) {
			t.Errorf("%q: %q, %+v, %v", out, data, r, err)
		}
	}
	if _, _, err := parseReport([]byte("\nvmlet-0 none\n"), tag); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("got %v", err)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"return":{"exited":true,"exitcode":3,"out-data":"aGkK","err-data":""}}`))
	f.Add([]byte(`{"return":{"pid":885}}`))
	f.Add([]byte(`{"error":{"class":"CommandNotFound","desc":"The command guest-exec has not been found"}}`))
	f.Add([]byte("\xff\xff{"))
	f.Fuzz(func(t *testing.T, answer []byte) {
		var started execStarted
		if err := decode(answer, &started); err == nil && started.PID <= 1 {
			t.Errorf("took %d for a process", started.PID)
		} else if err != nil && (len(err.Error()) > 1024 || !utf8.ValidString(err.Error())) {
			t.Errorf("error %q", err)
		}
		var status execStatus
		if err := decode(answer, &status); err == nil && (status.Exited == nil || status.code() < 0 || status.code() > 255) {
			t.Errorf("took %+v for a status", status)
		}
	})
}

func FuzzParseReport(f *testing.F) {
	f.Add([]byte("hello\nvmlet-0 0 0\n"))
	f.Add([]byte("\nvmlet-0 255 1\n"))
	f.Add([]byte("\nvmlet-0 none\n"))
	f.Fuzz(func(t *testing.T, out []byte) {
		data, r, err := parseReport(out, "vmlet-0")
		if err == nil && (len(data) >= len(out) || r.exit < 0 || r.exit > 255) {
			t.Errorf("%q: %q, %+v", out, data, r)
		}
	})
}
