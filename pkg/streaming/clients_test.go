// SPDX-License-Identifier: Apache-2.0

package streaming

import (
	"crypto/tls"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/net/websocket"
	"k8s.io/cri-streaming/pkg/streaming/portforward"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	"k8s.io/streaming/pkg/httpstream"
	"k8s.io/streaming/pkg/httpstream/spdy"
)

// connect opens a URL as kubelet does for kubectl: a POST that becomes a SPDY connection.
func connect(t *testing.T, address, protocol string, trust *tls.Config) (httpstream.Connection, error) {
	t.Helper()
	tripper, err := spdy.NewRoundTripperWithProxy(trust, func(*http.Request) (*url.URL, error) { return nil, nil })
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, address, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set(httpstream.HeaderProtocolVersion, protocol)
	res, err := tripper.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close() //nolint:errcheck // the connection lives on without it
	return tripper.NewConnection(res)
}

// spdyClient has a command's streams.
type spdyClient struct {
	t                             *testing.T
	conn                          httpstream.Connection
	stdin, stdout, stderr, resize httpstream.Stream
	status                        httpstream.Stream
}

func dialSPDY(t *testing.T, address string, want Wanted, trust *tls.Config) *spdyClient {
	t.Helper()
	conn, err := connect(t, address, remotecommand.StreamProtocolV4Name, trust)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() }) //nolint:errcheck // the server may have been first
	c := &spdyClient{t: t, conn: conn}
	c.status = c.open(remotecommand.StreamTypeError)
	if want.Stdin {
		c.stdin = c.open(remotecommand.StreamTypeStdin)
	}
	if want.Stdout {
		c.stdout = c.open(remotecommand.StreamTypeStdout)
	}
	if want.Stderr {
		c.stderr = c.open(remotecommand.StreamTypeStderr)
	}
	if want.TTY {
		c.resize = c.open(remotecommand.StreamTypeResize)
	}
	return c
}

func (c *spdyClient) open(kind string) httpstream.Stream {
	c.t.Helper()
	s, err := c.conn.CreateStream(http.Header{remotecommand.StreamType: {kind}})
	if err != nil {
		c.t.Fatalf("open stream %s: %v", kind, err)
	}
	return s
}

// result is what the server says at the end.
type result struct {
	Status  string  `json:"status"`
	Message string  `json:"message"`
	Details details `json:"details"`
}

type details struct {
	Causes []cause `json:"causes"`
}

type cause struct {
	Reason  string `json:"reason"`
	Message string `json:"message"`
}

// code is the exit code, -1 for an end without one.
func (r result) code() int {
	if r.Status == "Success" {
		return 0
	}
	for _, c := range r.Details.Causes {
		if c.Reason == remotecommand.ExitCodeCauseType {
			n, err := strconv.Atoi(c.Message)
			if err == nil {
				return n
			}
		}
	}
	return -1
}

func parseResult(t *testing.T, b []byte) (r result) {
	t.Helper()
	if err := json.Unmarshal(b, &r); err != nil {
		t.Fatalf("%q: %v", b, err)
	}
	return r
}

func (c *spdyClient) result() result {
	c.t.Helper()
	return parseResult(c.t, []byte(readAll(c.t, c.status)))
}

// shut closes a stream or a connection, which the other side may have done before.
func shut(c io.Closer) { _ = c.Close() } //nolint:errcheck // said above

func readAll(t *testing.T, r io.Reader) string {
	t.Helper()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Error(err)
	}
	return string(b)
}

func write(t *testing.T, w io.Writer, text string) {
	t.Helper()
	if _, err := io.WriteString(w, text); err != nil {
		t.Error(err)
	}
}

// wsClient is a client by WebSocket: one message is a channel's number and bytes.
type wsClient struct {
	t *testing.T
	*websocket.Conn
}

func dialWebSocket(t *testing.T, address string) *wsClient {
	t.Helper()
	cfg, err := websocket.NewConfig(strings.Replace(address, "http", "ws", 1), "http://localhost")
	if err != nil {
		t.Fatal(err)
	}
	cfg.Protocol = []string{"v4.channel.k8s.io"}
	conn, err := cfg.DialContext(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() }) //nolint:errcheck // the server may have been first
	return &wsClient{t, conn}
}

func (c *wsClient) send(channel byte, text string) {
	c.t.Helper()
	if err := websocket.Message.Send(c.Conn, append([]byte{channel}, text...)); err != nil {
		c.t.Error(err)
	}
}

// all reads to the end what each channel had to say.
func (c *wsClient) all() map[byte]string {
	got := map[byte]string{}
	for {
		var b []byte
		if websocket.Message.Receive(c.Conn, &b) != nil {
			return got
		}
		if len(b) > 0 {
			got[b[0]] += string(b[1:])
		}
	}
}

// forward opens one connection through a port-forward.
func forward(t *testing.T, conn httpstream.Connection, request int, port string) (data, trouble httpstream.Stream) {
	t.Helper()
	h := http.Header{
		portforward.PortHeader:                 {port},
		portforward.PortForwardRequestIDHeader: {strconv.Itoa(request)},
	}
	for _, kind := range []string{portforward.StreamTypeError, portforward.StreamTypeData} {
		h.Set(portforward.StreamType, kind)
		s, err := conn.CreateStream(h)
		if err != nil {
			t.Fatal(err)
		}
		if kind == portforward.StreamTypeData {
			data = s
		} else {
			trouble = s
			_ = s.Close() //nolint:errcheck // nothing will be said there, as kubectl does
		}
	}
	return data, trouble
}
