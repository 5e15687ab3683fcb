// SPDX-License-Identifier: Apache-2.0

package call_test

import (
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/vmlet/vmlet/pkg/agentlink"
	agentv1 "github.com/vmlet/vmlet/proto/agent/v1"
)

func startMain(id, script string) *agentv1.Request {
	return &agentv1.Request{Call: &agentv1.Request_StartMain{StartMain: &agentv1.StartMainRequest{
		Id: id, Process: sh(script), Stdin: true,
	}}}
}

func waitMain(id string) *agentv1.Request {
	return &agentv1.Request{Call: &agentv1.Request_WaitMain{WaitMain: &agentv1.WaitMainRequest{Id: id}}}
}

func attachMain() *agentv1.Request {
	return &agentv1.Request{Call: &agentv1.Request_AttachMain{AttachMain: &agentv1.AttachMainRequest{Id: "a"}}}
}

func TestTheCommandOutlivesSessions(t *testing.T) {
	g := newGuest(t)
	s := g.connect(t)
	_, reply := ask(t, s, waitMain("a"))
	expectClass(t, reply, agentv1.Error_NOT_FOUND)
	order(t, s, startMain("a", "echo begun; read line; echo $line >&2; exit 6"))
	must(t, s.Close())

	s = g.connect(t)
	order(t, s, startMain("a", "echo once more"))
	st, _ := order(t, s, attachMain())
	must(t, st.Send(stdin("go on\n")))
	if err := st.Receive(&agentv1.FromProcess{}); !errors.Is(err, io.EOF) {
		t.Errorf("the end of an attachment: %v", err)
	}
	_, reply = order(t, s, waitMain("a"))
	if e := reply.GetMainExit(); e.GetExit().GetCode() != 6 || e.GetId() != "a" {
		t.Errorf("%v", e)
	}
	_, reply = ask(t, s, startMain("b", "true"))
	expectClass(t, reply, agentv1.Error_FAILED_PRECONDITION)
	must(t, s.Close())

	s = g.connect(t)
	for range 2 { // the first answer may have been lost
		order(t, s, &agentv1.Request{Call: &agentv1.Request_AckMain{AckMain: &agentv1.AckMainRequest{Id: "a"}}})
	}
	_, reply = ask(t, s, waitMain("a"))
	expectClass(t, reply, agentv1.Error_NOT_FOUND)
	out, err := os.ReadFile(g.output)
	must(t, err)
	if !strings.Contains(string(out), "begun") || !strings.Contains(string(out), "go on") || strings.Contains(string(out), "once") {
		t.Errorf("%q", out)
	}
}

func TestASignalReachesTheCommand(t *testing.T) {
	s := newGuest(t).connect(t)
	order(t, s, startMain("a", "trap 'exit 21' USR1; echo ready; while :; do read line; done"))
	attached, _ := order(t, s, attachMain())
	must(t, attached.Send(stdin("a line\n"))) // is read after the trap is set
	signal := func(id, name string) *agentv1.Reply {
		_, reply := ask(t, s, &agentv1.Request{Call: &agentv1.Request_SignalMain{SignalMain: &agentv1.SignalMainRequest{Id: id, Signal: name}}})
		return reply
	}
	expectClass(t, signal("b", "SIGUSR1"), agentv1.Error_NOT_FOUND)
	expectClass(t, signal("a", "SIGNONSENSE"), agentv1.Error_INVALID_ARGUMENT)
	if reply := signal("a", "SIGUSR1"); reply.GetError() != nil {
		t.Fatal(reply.GetError())
	}
	_, reply := order(t, s, waitMain("a"))
	// The trap may not have been set: then the signal itself ended it.
	if c := reply.GetMainExit().GetExit().GetCode(); c != 21 && c != 138 {
		t.Errorf("exit code %d", c)
	}
}

func TestAWaitEndsWithItsCall(t *testing.T) {
	s := newGuest(t).connect(t)
	order(t, s, startMain("a", "read line; exit 4"))
	st, err := s.Open(t.Context())
	must(t, err)
	must(t, st.Send(waitMain("a")))
	must(t, st.Close())
	// An attached client that leaves, and one that does not.
	leaving, _ := order(t, s, attachMain())
	must(t, leaving.CloseWrite())
	if err := leaving.Receive(&agentv1.FromProcess{}); !errors.Is(err, io.EOF) {
		t.Errorf("the end of an attachment: %v", err)
	}
	staying, _ := order(t, s, attachMain())
	must(t, staying.Send(stdin("x\n")))
	if _, reply := order(t, s, waitMain("a")); reply.GetMainExit().GetExit().GetCode() != 4 {
		t.Errorf("%v", reply)
	}
	if err := staying.Receive(&agentv1.FromProcess{}); !errors.Is(err, io.EOF) {
		t.Errorf("the end of the command: %v", err)
	}
}

// A command that reads nothing keeps no attached client from leaving.
func TestAnAttachedClientLeavesInMidInput(t *testing.T) {
	g := newGuest(t)
	s := g.connect(t)
	order(t, s, startMain("a", "sleep 1000"))
	st, _ := order(t, s, attachMain())
	for range 5 {
		must(t, st.Send(stdin(strings.Repeat("x", agentlink.MaxPiece-64))))
	}
	must(t, st.Close())
	order(t, s, &agentv1.Request{Call: &agentv1.Request_SignalMain{SignalMain: &agentv1.SignalMainRequest{Id: "a", Signal: "KILL"}}})
	begin := time.Now()
	order(t, s, waitMain("a"))
	if time.Since(begin) > 10*time.Second {
		t.Error("the command's end waited for its client")
	}
}
