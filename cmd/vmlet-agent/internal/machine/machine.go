// SPDX-License-Identifier: Apache-2.0

// Package machine is what the agent sees and does of the guest as a whole: what it is, its
// names and settings, its power, its file systems, its plugged CPUs and memory.
package machine

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Machine is the guest. For concurrent use.
type Machine struct {
	// root is where proc, sys and etc are: "/", but for tests.
	root string
}

// New returns the guest that the agent runs in.
func New() *Machine { return &Machine{root: "/"} }

// path returns a path of the guest's.
func (m *Machine) path(elem ...string) string {
	return filepath.Join(append([]string{m.root}, elem...)...)
}

// read returns a short file's first line, "" if it cannot be read.
func (m *Machine) read(elem ...string) string {
	b, err := os.ReadFile(m.path(elem...))
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(string(b), "\n")
	return strings.TrimSpace(line)
}

// BootID is another one each time that the guest boots.
func (m *Machine) BootID() (string, error) {
	id := m.read("proc/sys/kernel/random/boot_id")
	if id == "" {
		return "", errors.New("the kernel has no boot ID")
	}
	return id, nil
}

// replaceFile makes path a file with that content, whole or not at all, unless it is one
// already. What was a link becomes a file.
func replaceFile(path string, content []byte, mode os.FileMode) error {
	if info, err := os.Lstat(path); err == nil && info.Mode().IsRegular() {
		if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, content) {
			return nil
		}
	}
	return inPlaceOf(path, func(f *os.File) error {
		_, err := f.Write(content)
		return errors.Join(err, f.Chmod(mode))
	})
}

// inPlaceOf writes a new file and puts it in path's place; the old one stays if that fails.
func inPlaceOf(path string, write func(f *os.File) error) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".vmlet-*")
	if err != nil {
		return fmt.Errorf("replace %s: %w", path, err)
	}
	err = write(f)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("replace %s: %w", path, errors.Join(err, os.Remove(f.Name())))
	}
	return nil
}
