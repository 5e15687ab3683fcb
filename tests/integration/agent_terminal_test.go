// SPDX-License-Identifier: Apache-2.0

//go:build integration

package integration

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
)

// keyboard is input that a test types, and that does not end by itself.
type keyboard struct {
	mu    sync.Mutex
	typed *sync.Cond
	text  bytes.Buffer
}

func newKeyboard() *keyboard {
	k := &keyboard{}
	k.typed = sync.NewCond(&k.mu)
	return k
}

// Type does not wait for anybody to read it.
func (k *keyboard) Type(text string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.text.WriteString(text)
	k.typed.Broadcast()
}

// Read waits for something to be typed.
func (k *keyboard) Read(p []byte) (int, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for k.text.Len() == 0 {
		k.typed.Wait()
	}
	return k.text.Read(p)
}

// screen is output that a test looks at while it grows.
type screen struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

// String is all of it so far.
func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

func (s *screen) has(text string) error {
	if got := s.String(); !strings.Contains(got, text) {
		return fmt.Errorf("no %q in %q", text, got)
	}
	return nil
}
