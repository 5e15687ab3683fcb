// SPDX-License-Identifier: Apache-2.0

package lifecycle_test

import (
	"context"
	"io"
	"os"
	"sync"
	"time"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/lifecycle"
	"github.com/vmlet/vmlet/pkg/vm"
)

var _ lifecycle.ConsoleStreams = (*streams)(nil)

// streams is a lifecycle.ConsoleStreams on which containers say what say tells them to.
type streams struct {
	mu    sync.Mutex
	said  map[string]chan string // by container ID; closed when it has ended
	typed map[string]string      // by device

	replay  int64         // that SubscribeSerial was asked for last
	inputs  []*keyboard   // that are or were open, in their order
	missing bool          // consoles are not followed any more
	slow    time.Duration // what a Write takes, of which nothing is left out
	stuck   bool          // guests do not read
}

// keyboard is an open console.
type keyboard struct {
	streams *streams
	device  string
	gone    chan struct{}
	closed  chan struct{}
	once    sync.Once
}

func newStreams() *streams {
	return &streams{said: map[string]chan string{}, typed: map[string]string{}}
}

func (s *streams) of(containerID string) chan string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.said[containerID] == nil {
		s.said[containerID] = make(chan string, 16)
	}
	return s.said[containerID]
}

func (s *streams) typedInto(device string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.typed[device]
}

// Subscribe implements lifecycle.ConsoleStreams.
func (s *streams) Subscribe(_ context.Context, containerID string) (func(context.Context, io.Writer, io.Writer) error, error) {
	said := s.of(containerID)
	return func(ctx context.Context, stdout, _ io.Writer) error {
		for {
			select {
			case text, more := <-said:
				if !more {
					return nil
				}
				if _, err := io.WriteString(stdout, text); err != nil {
					return err
				}
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}, nil
}

// SendInput implements lifecycle.ConsoleStreams.
func (s *streams) SendInput(_ context.Context, device string, stdin io.Reader) error {
	text, err := io.ReadAll(stdin)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.typed[device] += string(text)
	return err
}

// SubscribeSerial implements lifecycle.ConsoleStreams.
func (s *streams) SubscribeSerial(ctx context.Context, containerID string, replay int64) (func(context.Context, io.Writer) error, error) {
	s.mu.Lock()
	s.replay = replay
	missing := s.missing
	s.mu.Unlock()
	if missing {
		return nil, errdefs.ErrNotFound
	}
	deliver, err := s.Subscribe(ctx, containerID)
	return func(ctx context.Context, output io.Writer) error { return deliver(ctx, output, nil) }, err
}

// OpenInput implements lifecycle.ConsoleStreams.
func (s *streams) OpenInput(device string) (vm.ConsoleInput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := &keyboard{streams: s, device: device, gone: make(chan struct{}), closed: make(chan struct{})}
	s.inputs = append(s.inputs, k)
	return k, nil
}

// delay has a Write take so long.
func (s *streams) delay(slow time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.slow = slow
}

// open are the consoles that are open now.
func (s *streams) open() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range s.inputs {
		select {
		case <-k.closed:
		default:
			n++
		}
	}
	return n
}

// endQEMU ends the machine behind all consoles that were opened until now.
func (s *streams) endQEMU() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range s.inputs {
		close(k.gone)
	}
	s.inputs = nil
}

func (k *keyboard) Write(b []byte) (int, error) {
	k.streams.mu.Lock()
	stuck, slow := k.streams.stuck, k.streams.slow
	k.streams.mu.Unlock()
	if slow > 0 {
		time.Sleep(slow)
		k.streams.mu.Lock()
		defer k.streams.mu.Unlock()
		k.streams.typed[k.device] += string(b)
		return len(b), nil
	}
	if stuck {
		<-k.closed
	}
	select {
	case <-k.closed:
		return 0, os.ErrDeadlineExceeded
	case <-k.gone:
		return 0, errdefs.ErrUnavailable
	default:
	}
	k.streams.mu.Lock()
	defer k.streams.mu.Unlock()
	k.streams.typed[k.device] += string(b)
	return len(b), nil
}

func (k *keyboard) Gone() <-chan struct{} { return k.gone }

func (k *keyboard) Close() { k.once.Do(func() { close(k.closed) }) }
