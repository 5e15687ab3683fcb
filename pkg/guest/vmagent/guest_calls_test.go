// SPDX-License-Identifier: Apache-2.0

package vmagent

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/agentlink"
	"github.com/vmlet/vmlet/pkg/vm"
	agentv1 "github.com/vmlet/vmlet/proto/agent/v1"
)

// refusing is an agent that does not do what it is asked for.
func refusing(class agentv1.Error_Class, message string) agentlink.Handler {
	return answering(func(*agentv1.Request) *agentv1.Reply {
		return &agentv1.Reply{Error: &agentv1.Error{Class: class, Message: message}}
	})
}

func TestAnAgentThatIsTooOldIsSaidSo(t *testing.T) {
	m, a := newMachine(t)
	m.boot("boot", refusing(agentv1.Error_UNIMPLEMENTED, "this agent does not know the call"))
	for name, call := range map[string]func(context.Context) error{
		"ReadFile": func(ctx context.Context) error {
			return a.ReadFile(ctx, "a", vm.ReadGuestFile{Path: "/f"}, func(vm.GuestFile) (io.Writer, error) { return nil, errors.New("told of a file") })
		},
		"WriteFile": func(ctx context.Context) error {
			return a.WriteFile(ctx, "a", vm.WriteGuestFile{Path: "/f"}, strings.NewReader("x"))
		},
		"Keys":    func(ctx context.Context) error { _, err := a.Keys(ctx, "a", "u"); return err },
		"SetKeys": func(ctx context.Context) error { return a.SetKeys(ctx, "a", vm.KeysChange{User: "u"}) },
		"SetPassword": func(ctx context.Context) error {
			return a.SetPassword(ctx, "a", vm.GuestPassword{User: "u", Password: "sesame"})
		},
	} {
		if err := call(soon(t)); !errdefs.IsNotImplemented(err) || !strings.Contains(err.Error(), "older than this call") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAGuestThatRepeatsThePasswordIsNotQuoted(t *testing.T) {
	m, a := newMachine(t)
	m.boot("boot", refusing(agentv1.Error_FAILED_PRECONDITION, "sesame is too weak"))
	err := a.SetPassword(soon(t), "a", vm.GuestPassword{User: "u", Password: "sesame"})
	if !errdefs.IsFailedPrecondition(err) || strings.Contains(err.Error(), "sesame") {
		t.Errorf("got %v", err)
	}
}

// stat and chunks are what an agent answers with.
func stat(size uint64) *agentv1.Reply {
	return &agentv1.Reply{Result: &agentv1.Reply_FileStat{FileStat: &agentv1.FileStat{Size: size}}}
}

func TestAGuestThatLiesAboutAFileIsFoundOut(t *testing.T) {
	for title, tc := range map[string]struct {
		reply  *agentv1.Reply
		chunks []*agentv1.FileChunk
		is     func(error) bool
		most   int
	}{
		"more than there is":    {stat(3), []*agentv1.FileChunk{{Data: []byte("abcd"), Last: true}}, errdefs.IsInternal, 0},
		"more and more":         {stat(3), []*agentv1.FileChunk{{Data: []byte("ab")}, {Data: []byte("cd")}}, errdefs.IsInternal, 2},
		"without an end":        {stat(3), []*agentv1.FileChunk{{Data: []byte("ab")}}, errdefs.IsUnavailable, 2},
		"no file":               {&agentv1.Reply{}, nil, errdefs.IsInternal, 0},
		"a size beyond numbers": {stat(1 << 63), nil, errdefs.IsInternal, 0},
		"a huge piece":          {stat(1 << 30), []*agentv1.FileChunk{{Data: make([]byte, 1<<19)}}, errdefs.IsInternal, 0},
	} {
		t.Run(title, func(t *testing.T) {
			m, a := newMachine(t)
			m.boot("boot", func(_ context.Context, s *agentlink.Stream) {
				if s.Receive(&agentv1.Request{}) != nil || s.Send(tc.reply) != nil {
					return
				}
				for _, c := range tc.chunks {
					anyway(s.Send(c))
				}
			})
			var got bytes.Buffer
			err := a.ReadFile(soon(t), "a", vm.ReadGuestFile{Path: "/f"}, func(vm.GuestFile) (io.Writer, error) { return &got, nil })
			if !tc.is(err) || got.Len() > tc.most {
				t.Errorf("%d bytes, %v", got.Len(), err)
			}
		})
	}
}

// An agent that cannot go on says so while there is still much to send, and while the client says nothing.
func TestARefusalInTheMiddleEndsAWrite(t *testing.T) {
	quiet := make(silent)
	defer close(quiet)
	for title, content := range map[string]io.Reader{"a client that sends without end": endless{}, "a client that is silent": quiet} {
		t.Run(title, func(t *testing.T) {
			m, a := newMachine(t)
			m.boot("boot", func(_ context.Context, s *agentlink.Stream) {
				if s.Receive(&agentv1.Request{}) == nil && s.Send(&agentv1.Reply{}) == nil {
					anyway(s.Send(&agentv1.Reply{Error: &agentv1.Error{Class: agentv1.Error_RESOURCE_EXHAUSTED, Message: "no space left"}}))
				}
			})
			err := a.WriteFile(soon(t), "a", vm.WriteGuestFile{Path: "/f"}, content)
			if !errdefs.IsResourceExhausted(err) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// What was not sent was not written, whatever the guest says.
func TestAWriteThatIsDoneBeforeItsEndIsNonsense(t *testing.T) {
	m, a := newMachine(t)
	m.boot("boot", func(_ context.Context, s *agentlink.Stream) {
		if s.Receive(&agentv1.Request{}) == nil && s.Send(&agentv1.Reply{}) == nil {
			anyway(s.Send(&agentv1.Reply{}))
		}
	})
	quiet := make(silent)
	defer close(quiet)
	if err := a.WriteFile(soon(t), "a", vm.WriteGuestFile{Path: "/f"}, quiet); !errdefs.IsInternal(err) {
		t.Errorf("got %v", err)
	}
}

// endless brings zeros, silent nothing.
type (
	endless struct{}
	silent  chan struct{}
)

// Read implements io.Reader.
func (endless) Read(p []byte) (int, error) { return len(p), nil }

// Read implements io.Reader.
func (s silent) Read([]byte) (int, error) { <-s; return 0, io.EOF }

func TestWhatAGuestSaysOfItselfIsBounded(t *testing.T) {
	long := strings.Repeat("x", 1000) + "\n"
	said := &agentv1.Info{Machine: "m\x1b[2J", Hostname: long, UptimeNano: -5}
	for range 100 {
		said.Filesystems = append(said.Filesystems, &agentv1.Filesystem{Device: long, TotalBytes: 1 << 63})
		said.Logins = append(said.Logins, &agentv1.Login{User: "a\nb"})
		said.Interfaces = append(said.Interfaces, &agentv1.Interface{Name: "e", Addresses: []string{"10.0.0.1/24", "nonsense"}})
	}
	got, err := info(said)
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Filesystems) != maxList || len(got.Logins) != maxList || len(got.Interfaces) != maxList || len(got.Hostname) > maxText ||
		got.Machine != "m [2J" || got.Uptime != 0 || len(got.Filesystems[0].Device) > maxText || got.Filesystems[0].Total < 0 ||
		got.Logins[0].User != "a b" || len(got.Interfaces[0].Addresses) != 1 || len(got.Unknown) != 0 {
		t.Errorf("%+v", got)
	}
	if got, err = info(&agentv1.Info{ClockUnixNano: 5}); err != nil || len(got.Unknown) != 2 || !got.Clock.Equal(time.Unix(0, 5)) {
		t.Errorf("of an older agent: %+v, %v", got, err)
	}
}
