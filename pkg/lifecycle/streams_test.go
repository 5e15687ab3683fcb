// SPDX-License-Identifier: Apache-2.0

package lifecycle_test

import (
	"context"
	"io"
	"sync"

	"github.com/vmlet/vmlet/pkg/lifecycle"
)

var _ lifecycle.ConsoleStreams = (*streams)(nil)

// streams is a lifecycle.ConsoleStreams on which containers say what say tells them to.
type streams struct {
	mu    sync.Mutex
	said  map[string]chan string // by container ID; closed when it has ended
	typed map[string]string      // by device
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
