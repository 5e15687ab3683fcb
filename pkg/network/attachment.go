// SPDX-License-Identifier: Apache-2.0

package network

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/vm"
)

// attachment is what a sandbox's ADD is called with, so that its DEL can be. libcni's cache
// says so too, but only once ADD has succeeded: what a plugin did before the next one failed
// or this process died is in no cache.
type attachment struct {
	Request vm.NetworkRequest `json:"request"`
	// NIC is what was asked for beside the sandbox's first interface, nil for that.
	NIC *vm.NICRequest `json:"nic,omitempty"`
	// Serial orders the attachments of a sandbox: what came last goes first.
	Serial int `json:"serial,omitempty"`
	// Config is the CNI configuration list, plugins from other files included; empty if
	// none is known.
	Config json.RawMessage `json:"config,omitempty"`
}

// attachments is the folder with a file per attachment.
type attachments struct{ dir string }

func (s attachments) path(id string) string { return filepath.Join(s.dir, id) }

// fileOf is the file's name: the sandbox's ID, and for another interface than the first one ".NAME" behind it.
func (a attachment) fileOf() string {
	if a.NIC == nil {
		return a.Request.SandboxID
	}
	return nicFile(a.Request.SandboxID, a.NIC.Spec.Name)
}

// ifName is the interface's name to CNI.
func (a attachment) ifName() string {
	if a.NIC == nil {
		return primaryNIC
	}
	return a.NIC.Spec.Name
}

func nicFile(id, name string) string { return id + "." + name }

// create writes an attachment; it is on disk when create returns. AlreadyExists if there is
// one. A crash in here leaves at worst a file that does not parse.
func (s attachments) create(a attachment) (err error) {
	data, err := json.Marshal(a)
	if err != nil {
		return fmt.Errorf("encode attachment: %w", err)
	}
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return fmt.Errorf("write attachment: %w", err)
	}
	path := s.path(a.fileOf())
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("attachment %s: %w", path, errdefs.ErrAlreadyExists)
	}
	if err != nil {
		return fmt.Errorf("write attachment: %w", err)
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close(), syncFolder(s.dir)); err != nil {
		return fmt.Errorf("write attachment: %w", errors.Join(err, os.Remove(path)))
	}
	return nil
}

func syncFolder(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// get reads an attachment. NotFound if there is none. One that does not parse is returned
// with the ID alone: its Setup ended before it called a plugin.
func (s attachments) get(id string) (attachment, error) {
	a, err := s.read(id)
	if err == nil && a.Request.SandboxID != id {
		a = attachment{Request: vm.NetworkRequest{SandboxID: id}}
	}
	return a, err
}

// read reads a file: the zero value if it does not parse, NotFound if there is none.
func (s attachments) read(file string) (attachment, error) {
	data, err := os.ReadFile(s.path(file))
	if errors.Is(err, fs.ErrNotExist) {
		return attachment{}, fmt.Errorf("attachment of %s: %w", file, errdefs.ErrNotFound)
	}
	if err != nil {
		return attachment{}, fmt.Errorf("read attachment: %w", err)
	}
	var a attachment
	if err := json.Unmarshal(data, &a); err != nil {
		return attachment{}, nil //nolint:nilerr // see above
	}
	return a, nil
}

// remove forgets an attachment. Idempotent.
func (s attachments) remove(id string) error {
	if err := os.Remove(s.path(id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove attachment: %w", err)
	}
	return nil
}

// sandboxesIn lists the files in a folder that are named by a sandbox ID. Other files are
// not ours; a folder that is absent holds none.
func sandboxesIn(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var ids []string
	for _, e := range entries {
		if checkID(e.Name()) == nil {
			ids = append(ids, e.Name())
		}
	}
	return ids, nil
}
