// SPDX-License-Identifier: Apache-2.0

package call_test

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	agentv1 "github.com/vmlet/vmlet/proto/agent/v1"
)

func TestInfoIsTheGuests(t *testing.T) {
	s := newGuest(t).connect(t)
	_, reply := order(t, s, &agentv1.Request{Call: &agentv1.Request_Info{Info: &agentv1.InfoRequest{}}})
	info := reply.GetInfo()
	kernel, err := os.ReadFile("/proc/sys/kernel/osrelease")
	must(t, err)
	if info.GetKernel() != strings.TrimSpace(string(kernel)) || info.GetBootId() == "" || info.GetOs() == "" || info.GetCpusOnline() == 0 ||
		info.GetMemoryTotalBytes() < info.GetMemoryAvailableBytes() || info.GetMemoryAvailableBytes() == 0 || info.GetUptimeNano() == 0 {
		t.Errorf("%v", info)
	}
}

func TestACallThatTheAgentDoesNotKnow(t *testing.T) {
	s := newGuest(t).connect(t)
	_, reply := ask(t, s, &agentv1.Request{})
	expectClass(t, reply, agentv1.Error_UNIMPLEMENTED)
	_, reply = ask(t, s, &agentv1.Request{Call: &agentv1.Request_Power{Power: &agentv1.PowerRequest{}}})
	expectClass(t, reply, agentv1.Error_INVALID_ARGUMENT)
	st, err := s.Open(t.Context())
	must(t, err)
	_, err = st.Write([]byte{3, 0xff, 0xff, 0xff})
	must(t, err)
	reply = &agentv1.Reply{}
	must(t, st.Receive(reply))
	expectClass(t, reply, agentv1.Error_INVALID_ARGUMENT)
	must(t, st.Close())
}

func TestDialJoinsAPort(t *testing.T) {
	s := newGuest(t).connect(t)
	for _, address := range []string{"127.0.0.1:0", "[::1]:0"} {
		l, err := net.Listen("tcp", address)
		if err != nil {
			t.Logf("without %s: %v", address, err)
			continue
		}
		t.Cleanup(func() { must(t, l.Close()) })
		go func() {
			// Echoes all, once the other side has said all.
			conn, err := l.Accept()
			if err != nil {
				return
			}
			b, _ := io.ReadAll(conn) //nolint:errcheck // what came is compared, on the other side
			_, _ = conn.Write(b)     //nolint:errcheck // likewise
			_ = conn.Close()         //nolint:errcheck // likewise
		}()
		port := portOf(t, l)
		st, _ := order(t, s, dial("tcp", port))
		text := strings.Repeat("x", 1<<20)
		go func() {
			_, _ = io.WriteString(st, text) //nolint:errcheck // likewise
			_ = st.CloseWrite()             //nolint:errcheck // likewise
		}()
		b, err := io.ReadAll(st)
		if err != nil || string(b) != text {
			t.Errorf("%s: %d bytes, %v", address, len(b), err)
		}
	}
}

func portOf(t *testing.T, l net.Listener) uint32 {
	t.Helper()
	address, err := netip.ParseAddrPort(l.Addr().String())
	must(t, err)
	return uint32(address.Port())
}

func dial(network string, port uint32) *agentv1.Request {
	return &agentv1.Request{Call: &agentv1.Request_Dial{Dial: &agentv1.DialRequest{Network: network, Port: port}}}
}

func TestDialWithoutAnybodyThere(t *testing.T) {
	s := newGuest(t).connect(t)
	_, reply := ask(t, s, dial("tcp", 1))
	expectClass(t, reply, agentv1.Error_UNAVAILABLE)
	for network, port := range map[string]uint32{"udp": 80, "tcp": 0, "tcp4": 1 << 16, "": 80} {
		_, reply := ask(t, s, dial(network, port))
		expectClass(t, reply, agentv1.Error_INVALID_ARGUMENT)
	}
}

// What one side breaks off ends for the other one.
func TestADialledConnectionEndsForBothSides(t *testing.T) {
	s := newGuest(t).connect(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close() //nolint:errcheck // the test is over
	port := portOf(t, l)

	st, _ := order(t, s, dial("tcp4", port))
	conn, err := l.Accept()
	must(t, err)
	must(t, st.Close())
	if _, err := io.ReadAll(conn); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Logf("the guest's side: %v", err) // a reset is as good as an end
	}
	must(t, conn.Close())

	st, _ = order(t, s, dial("tcp4", port))
	conn, err = l.Accept()
	must(t, err)
	if tcp, ok := conn.(*net.TCPConn); ok {
		must(t, tcp.SetLinger(0)) // a reset, not an end
	}
	must(t, conn.Close())
	if _, err := io.ReadAll(st); err != nil {
		t.Logf("the host's side: %v", err)
	}
}

func TestFilesAreReadAndReplaced(t *testing.T) {
	s := newGuest(t).connect(t)
	path := filepath.Join(t.TempDir(), "file")
	read := func(offset uint64, limit uint32) *agentv1.FileContent {
		t.Helper()
		_, reply := order(t, s, &agentv1.Request{Call: &agentv1.Request_ReadFile{
			ReadFile: &agentv1.ReadFileRequest{Path: path, Offset: offset, Limit: limit},
		}})
		return reply.GetFile()
	}
	write := func(chunks ...*agentv1.FileChunk) *agentv1.Reply {
		st, err := s.Open(t.Context())
		must(t, err)
		must(t, st.Send(&agentv1.Request{Call: &agentv1.Request_WriteFile{
			WriteFile: &agentv1.WriteFileRequest{Path: path, Mode: 0o4755, Uid: 12, Gid: 34},
		}}))
		for _, c := range chunks {
			must(t, st.Send(c))
		}
		must(t, st.CloseWrite())
		var reply agentv1.Reply
		must(t, st.Receive(&reply))
		return &reply
	}
	if reply := write(&agentv1.FileChunk{Data: []byte("hello ")}, &agentv1.FileChunk{Data: []byte("world"), Last: true}); reply.GetError() != nil {
		t.Fatal(reply.GetError())
	}
	if got := read(0, 1<<20); string(got.GetData()) != "hello world" || !got.GetEnd() || got.GetSize() != 11 {
		t.Errorf("%v", got)
	}
	if got := read(6, 3); string(got.GetData()) != "wor" || got.GetEnd() {
		t.Errorf("%v", got)
	}
	if got := read(100, 3); len(got.GetData()) != 0 || !got.GetEnd() {
		t.Errorf("%v", got)
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o755|os.ModeSetuid {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	// In part is not at all.
	reply := write(&agentv1.FileChunk{Data: []byte("half")})
	if reply.GetError() == nil || string(read(0, 100).GetData()) != "hello world" {
		t.Errorf("%v", reply)
	}
	if entries, err := os.ReadDir(filepath.Dir(path)); err != nil || len(entries) != 1 {
		t.Errorf("%v, %v", entries, err)
	}
}

func TestWhatIsNoFileIsNotRead(t *testing.T) {
	s := newGuest(t).connect(t)
	for path, class := range map[string]agentv1.Error_Class{
		"/no/such": agentv1.Error_NOT_FOUND, "/dev/zero": agentv1.Error_FAILED_PRECONDITION, "/etc": agentv1.Error_FAILED_PRECONDITION,
	} {
		_, reply := ask(t, s, &agentv1.Request{Call: &agentv1.Request_ReadFile{ReadFile: &agentv1.ReadFileRequest{Path: path, Limit: 1}}})
		expectClass(t, reply, class)
	}
}

// FuzzRequest sends whatever may stand at the beginning of a call: the agent answers, or
// closes it, and serves the next one. Calls that would change the guest are left out.
func FuzzRequest(f *testing.F) {
	for _, req := range []*agentv1.Request{
		{}, waitMain("a"), attachMain(), dial("tcp", 1),
		execRequest(&agentv1.ExecRequest{Process: &agentv1.Process{Args: []string{"/no/such"}, Security: &agentv1.Security{User: "x"}}}),
		{Call: &agentv1.Request_SyncFiles{SyncFiles: &agentv1.SyncFilesRequest{Path: "/x"}}},
	} {
		b, err := proto.Marshal(req)
		must(f, err)
		f.Add(b)
	}
	s := newGuest(f).connect(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		var req agentv1.Request
		if proto.Unmarshal(b, &req) == nil && !harmless(&req) {
			t.Skip()
		}
		st, err := s.Open(t.Context())
		must(t, err)
		defer st.Close() //nolint:errcheck // the session shows below that it lives
		_, err = st.Write(append(appendUvarint(nil, len(b)), b...))
		must(t, err)
		must(t, st.CloseWrite())
		_, _ = io.Copy(io.Discard, st) //nolint:errcheck // it may be refused
		_, reply := ask(t, s, waitMain("none"))
		expectClass(t, reply, agentv1.Error_NOT_FOUND)
	})
}

func appendUvarint(b []byte, n int) []byte {
	for ; n >= 0x80; n >>= 7 {
		b = append(b, byte(n)|0x80)
	}
	return append(b, byte(n))
}

// harmless requests are those that a fuzzer may make of the host that it runs on, and that end.
func harmless(req *agentv1.Request) bool {
	switch c := req.GetCall().(type) {
	case nil, *agentv1.Request_Info, *agentv1.Request_WaitMain, *agentv1.Request_SignalMain, *agentv1.Request_AttachMain,
		*agentv1.Request_Dial, *agentv1.Request_Thaw:
		return true
	case *agentv1.Request_Exec:
		args := c.Exec.GetProcess().GetArgs()
		return len(args) == 0 || args[0] == "/no/such"
	case *agentv1.Request_StartMain:
		return len(c.StartMain.GetProcess().GetArgs()) == 0
	}
	return false
}
