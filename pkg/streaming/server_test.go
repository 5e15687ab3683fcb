// SPDX-License-Identifier: Apache-2.0

package streaming

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"go.uber.org/goleak"

	"github.com/vmlet/vmlet/pkg/vm"
)

// cases are use cases that a test makes up.
type cases struct {
	exec    func(ctx context.Context, cmd []string, tty bool, s vm.Streams) (int32, error)
	attach  func(ctx context.Context, s vm.Streams) error
	forward func(ctx context.Context, port uint16, stream io.ReadWriteCloser) error
}

func (c cases) ExecStream(ctx context.Context, _ string, cmd []string, tty bool, s vm.Streams) (int32, error) {
	return c.exec(ctx, cmd, tty, s)
}

func (c cases) Attach(ctx context.Context, _ string, s vm.Streams) error { return c.attach(ctx, s) }

func (c cases) PortForward(ctx context.Context, _ string, port uint16, s io.ReadWriteCloser) error {
	return c.forward(ctx, port, s)
}

// patience is how long something may take on a busy machine.
const patience = 20 * time.Second

// serve runs a server until stop is called, or the test ends, and expects that nothing of
// it is left then.
func serve(t *testing.T, cfg Config, svc UseCases) (s *Server, stop func()) {
	t.Helper()
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() {
		var left error
		for range 20 { // the SPDY library waits a second for who might want to know of an error
			if left = goleak.Find(before); left == nil {
				return
			}
		}
		t.Error(left)
	})
	if cfg.Address == "" {
		cfg.Address = "127.0.0.1:0"
	}
	s, err := New(t.Context(), cfg, svc)
	if err != nil {
		t.Fatal(err)
	}
	s.drainTime, s.farewell = 500*time.Millisecond, time.Second
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func(s *Server) { done <- s.Run(ctx) }(s)
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return s, stop
}

func must(t *testing.T, promise func() (string, error)) string {
	t.Helper()
	address, err := promise()
	if err != nil {
		t.Fatal(err)
	}
	return address
}

// closed waits until a channel is closed.
func closed(t *testing.T, what string, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(patience):
		t.Fatalf("never: %s", what)
	}
}

func TestAPlainTextServerKeepsToLoopback(t *testing.T) {
	for name, tt := range map[string]struct {
		cfg  Config
		want string
	}{
		"another address":      {Config{Address: "192.0.2.1:0"}, "not a loopback address"},
		"all addresses":        {Config{Address: "0.0.0.0:0"}, "no address that a client could be sent to"},
		"no address":           {Config{Address: "localhost"}, "not IP:PORT"},
		"half of a key pair":   {Config{Address: "192.0.2.1:0", TLSCert: "/c"}, "not one of them"},
		"a key that is absent": {Config{Address: "127.0.0.1:0", TLSCert: "/nowhere", TLSKey: "/nowhere"}, "no such file"},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := New(t.Context(), tt.cfg, cases{})
			if err == nil {
				s.Close()
			}
			if !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error = %v, want InvalidArgument with %q", err, tt.want)
			}
		})
	}
}

func TestAURLIsGoodOnce(t *testing.T) {
	ran := make(chan struct{}, 2)
	s, _ := serve(t, Config{}, cases{exec: func(context.Context, []string, bool, vm.Streams) (int32, error) {
		ran <- struct{}{}
		return 0, nil
	}})
	address := must(t, func() (string, error) { return s.Exec("c", []string{"x"}, Wanted{Stdout: true}) })
	if code := dialSPDY(t, address, Wanted{Stdout: true}, nil).result().code(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if _, err := connect(t, address, "v4.channel.k8s.io", nil); err == nil || !strings.Contains(err.Error(), "promised") {
		t.Errorf("the second time: %v", err)
	}
	if len(ran) != 1 {
		t.Errorf("the command ran %d times", len(ran))
	}
}

func TestAPromiseIsNotKeptAfterAMinute(t *testing.T) {
	now := time.Now()
	p := newPromises(func() time.Time { return now })
	path, err := p.make("exec", func(http.ResponseWriter, *http.Request) {})
	if err != nil {
		t.Fatal(err)
	}
	other, err := p.make("exec", func(http.ResponseWriter, *http.Request) {})
	if err != nil {
		t.Fatal(err)
	}
	now = now.Add(promiseLife)
	if p.keep(path) == nil {
		t.Error("it is not kept after a minute")
	}
	now = now.Add(time.Second)
	if p.keep(other) != nil {
		t.Error("it is kept after more than a minute")
	}
}

func TestPromisesAreBoundedAndExpiredOnesMakeRoom(t *testing.T) {
	now := time.Now()
	p := newPromises(func() time.Time { return now })
	for range maxPromises {
		if _, err := p.make("exec", nil); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := p.make("exec", nil); !errdefs.IsResourceExhausted(err) {
		t.Errorf("one too many: %v", err)
	}
	now = now.Add(promiseLife + time.Second)
	if _, err := p.make("exec", nil); err != nil {
		t.Errorf("after the others expired: %v", err)
	}
}

func TestAddressesOfStreams(t *testing.T) {
	for _, address := range []string{"127.0.0.1:0", "[::1]:0"} {
		s, _ := serve(t, Config{Address: address}, cases{exec: func(context.Context, []string, bool, vm.Streams) (int32, error) { return 7, nil }})
		promised := must(t, func() (string, error) { return s.Exec("c", []string{"x"}, Wanted{Stdout: true}) })
		host, port, err := net.SplitHostPort(s.Address().String())
		if err != nil || port == "0" || !strings.HasPrefix(promised, "http://"+net.JoinHostPort(host, port)+"/exec/") {
			t.Errorf("%s is promised at %s, served at %s, %v", address, promised, s.Address(), err)
		}
		if code := dialSPDY(t, promised, Wanted{Stdout: true}, nil).result().code(); code != 7 {
			t.Errorf("exit code %d at %s", code, promised)
		}
	}
}

func TestStreamsByTLS(t *testing.T) {
	dir := t.TempDir()
	cfg := Config{TLSCert: filepath.Join(dir, "cert"), TLSKey: filepath.Join(dir, "key")}
	roots := writeKeyPair(t, cfg)
	s, _ := serve(t, cfg, cases{exec: func(_ context.Context, _ []string, _ bool, s vm.Streams) (int32, error) {
		_, err := io.Copy(s.Stdout, s.Stdin)
		return 5, err
	}})
	want := Wanted{Stdin: true, Stdout: true}
	exec := func(roots *x509.CertPool) {
		t.Helper()
		address := must(t, func() (string, error) { return s.Exec("c", []string{"cat"}, want) })
		if !strings.HasPrefix(address, "https://") {
			t.Fatalf("promised at %s", address)
		}
		c := dialSPDY(t, address, want, &tls.Config{RootCAs: roots})
		write(t, c.stdin, "over TLS")
		shut(c.stdin)
		if got, code := readAll(t, c.stdout), c.result().code(); got != "over TLS" || code != 5 {
			t.Errorf("got %q, exit code %d", got, code)
		}
	}
	exec(roots)
	exec(writeKeyPair(t, cfg)) // a renewed certificate counts at once
	plain := strings.Replace(must(t, func() (string, error) { return s.Exec("c", []string{"cat"}, want) }), "https", "http", 1)
	if _, err := connect(t, plain, "v4.channel.k8s.io", nil); err == nil {
		t.Error("plain text is served as well")
	}
}

// writeKeyPair makes a certificate for 127.0.0.1, and returns what trusts it.
func writeKeyPair(t *testing.T, cfg Config) *x509.CertPool {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	for path, block := range map[string]*pem.Block{
		cfg.TLSCert: {Type: "CERTIFICATE", Bytes: der}, cfg.TLSKey: {Type: "PRIVATE KEY", Bytes: secret},
	} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
		if block.Type == "CERTIFICATE" {
			roots.AppendCertsFromPEM(pem.EncodeToMemory(block))
		}
	}
	return roots
}

func TestAShutdownLetsShortStreamsEndAndTellsLongOnes(t *testing.T) {
	release, running := make(chan struct{}), make(chan struct{}, 2)
	s, stop := serve(t, Config{}, cases{exec: func(ctx context.Context, cmd []string, _ bool, _ vm.Streams) (int32, error) {
		running <- struct{}{}
		if cmd[0] == "short" {
			<-release
			return 3, nil
		}
		<-ctx.Done()
		return 0, fmt.Errorf("killed: %w", ctx.Err())
	}})
	clients := map[string]*spdyClient{}
	for _, cmd := range []string{"short", "long"} {
		address := must(t, func() (string, error) { return s.Exec("c", []string{cmd}, Wanted{Stdout: true}) })
		clients[cmd] = dialSPDY(t, address, Wanted{Stdout: true}, nil)
		<-running
	}
	late := must(t, func() (string, error) { return s.Exec("c", []string{"late"}, Wanted{Stdout: true}) })
	stopped := make(chan struct{})
	go func() { defer close(stopped); stop() }()
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		if _, err := connect(t, late, "v4.channel.k8s.io", nil); err != nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("new streams are served during the shutdown")
		}
	}
	close(release)
	if code := clients["short"].result().code(); code != 3 {
		t.Errorf("the short one's exit code is %d", code)
	}
	if got := clients["long"].result(); got.code() != -1 || !strings.Contains(got.Message, "shutting down") {
		t.Errorf("the long one ended with %+v", got)
	}
	closed(t, "the server's end", stopped)
}

// A client whose input is not read cannot be heard: it must be found out that it has gone.
func TestAConnectionWithUnreadInputIsSeenToHaveGone(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() //nolint:errcheck // nothing was written to it
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := listener{l}.Accept()
	if err != nil {
		t.Fatal(err)
	}
	c, ok := accepted.(*conn)
	if !ok {
		t.Fatalf("accepted a %T", accepted)
	}
	ctx := connContext(t.Context(), c)
	defer c.Close() //nolint:errcheck // nothing was written to it
	write(t, client, "nobody reads this")
	if c.halfClosed() {
		t.Error("it is said to have gone while it is there")
	}
	if err := client.Close(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(patience); !c.halfClosed(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it is not seen to have gone")
		}
	}
	if ctx.Err() != nil {
		t.Error("nobody asked, and the context has ended")
	}
	if _, err := io.ReadAll(c); err != nil {
		t.Error(err)
	}
	if !errors.Is(context.Cause(ctx), errGone) {
		t.Errorf("the context's cause is %v after the end was read", context.Cause(ctx))
	}
}

func TestAFarewellIsNotPutOffByLaterDeadlines(t *testing.T) {
	here, there := net.Pipe()
	defer there.Close() //nolint:errcheck // a pipe
	c := &conn{Conn: here, gone: func(error) {}}
	defer c.Close() //nolint:errcheck // a pipe
	c.expire(10 * time.Millisecond)
	if err := c.SetDeadline(time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	written := make(chan error, 1)
	go func() {
		_, err := c.Write([]byte("nobody reads this"))
		written <- err
	}()
	select {
	case err := <-written:
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("Write: %v", err)
		}
	case <-time.After(patience):
		t.Error("it is still written")
	}
}
