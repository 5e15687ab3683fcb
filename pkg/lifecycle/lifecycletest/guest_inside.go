// SPDX-License-Identifier: Apache-2.0

package lifecycletest

import (
	"context"
	"fmt"
	"io"
	"path"
	"slices"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/vm"
)

// inside is what a fake guest has of files and users. It is gone with the boot.
type inside struct {
	files     map[string]insideFile
	folders   map[string]bool
	users     map[string]bool
	keys      map[string][]string
	passwords map[string]vm.GuestPassword
}

type insideFile struct {
	vm.GuestFile

	content []byte
}

// AddUser makes a user in a guest.
func (g *Guest) AddUser(id, name string) {
	g.with(id, func(one *fakeGuest) { put(&one.inside.users, name, true) })
}

// AddFolder makes a folder in a guest.
func (g *Guest) AddFolder(id, name string) {
	g.with(id, func(one *fakeGuest) { put(&one.inside.folders, name, true) })
}

// File returns the content of a file of a guest, "" if there is none.
func (g *Guest) File(id, name string) string {
	return read(g, id, func(one *fakeGuest) string { return string(one.inside.files[name].content) })
}

// Password returns what a user's password was set to last.
func (g *Guest) Password(id, user string) vm.GuestPassword {
	return read(g, id, func(one *fakeGuest) vm.GuestPassword { return one.inside.passwords[user] })
}

func put[V any](m *map[string]V, key string, v V) {
	if *m == nil {
		*m = map[string]V{}
	}
	(*m)[key] = v
}

// Info implements lifecycle.Guest.
func (g *Guest) Info(ctx context.Context, id string) (info vm.GuestInfo, err error) {
	err = g.call(ctx, "Info", id, func(one *fakeGuest) error {
		info = vm.GuestInfo{Agent: vm.AgentVMlet, BootID: fmt.Sprint("boot-", one.boot)}
		return nil
	})
	return info, err
}

// ReadFile implements lifecycle.Guest.
func (g *Guest) ReadFile(ctx context.Context, id string, req vm.ReadGuestFile, begin func(vm.GuestFile) (io.Writer, error)) error {
	var f insideFile
	if err := g.call(ctx, "ReadFile", id, func(one *fakeGuest) error {
		var ok bool
		if f, ok = one.inside.files[req.Path]; !ok {
			if one.inside.folders[req.Path] {
				return fmt.Errorf("%s is a folder: %w", req.Path, errdefs.ErrFailedPrecondition)
			}
			return fmt.Errorf("no file %s: %w", req.Path, errdefs.ErrNotFound)
		}
		return nil
	}); err != nil {
		return err
	}
	to, err := begin(f.GuestFile)
	if err != nil {
		return err
	}
	from := min(req.Offset, f.Size)
	_, err = to.Write(f.content[from : from+min(req.Span(f.GuestFile), f.Size-from)])
	return err
}

// WriteFile implements lifecycle.Guest.
func (g *Guest) WriteFile(ctx context.Context, id string, f vm.WriteGuestFile, content io.Reader) error {
	if err := g.call(ctx, "WriteFile", id, func(one *fakeGuest) error { return one.inside.free(f) }); err != nil {
		return err
	}
	b, err := io.ReadAll(content) // a fake may
	if err != nil {
		return err
	}
	return g.call(ctx, "WriteFile", id, func(one *fakeGuest) error {
		if err := one.inside.free(f); err != nil {
			return err
		}
		if f.Parents {
			put(&one.inside.folders, path.Dir(f.Path), true)
		}
		put(&one.inside.files, f.Path, insideFile{vm.GuestFile{Size: int64(len(b)), Mode: f.Mode, UID: f.UID, GID: f.GID}, b})
		return nil
	})
}

func (i inside) free(f vm.WriteGuestFile) error {
	_, there := i.files[f.Path]
	switch {
	case i.folders[f.Path]:
		return fmt.Errorf("%s is a folder: %w", f.Path, errdefs.ErrFailedPrecondition)
	case there && !f.Overwrite:
		return fmt.Errorf("%s is there: %w", f.Path, errdefs.ErrAlreadyExists)
	case !i.folders[path.Dir(f.Path)] && !f.Parents:
		return fmt.Errorf("no folder %s: %w", path.Dir(f.Path), errdefs.ErrNotFound)
	}
	return nil
}

func (i inside) known(user string) error {
	if !i.users[user] {
		return fmt.Errorf("no user %q: %w", user, errdefs.ErrNotFound)
	}
	return nil
}

// Keys implements lifecycle.Guest.
func (g *Guest) Keys(ctx context.Context, id, user string) (keys []string, err error) {
	err = g.call(ctx, "Keys", id, func(one *fakeGuest) error {
		keys = slices.Clone(one.inside.keys[user])
		return one.inside.known(user)
	})
	return keys, err
}

// SetKeys implements lifecycle.Guest.
func (g *Guest) SetKeys(ctx context.Context, id string, c vm.KeysChange) error {
	return g.call(ctx, "SetKeys", id, func(one *fakeGuest) error {
		if err := one.inside.known(c.User); err != nil {
			return err
		}
		keys := slices.DeleteFunc(slices.Clone(one.inside.keys[c.User]), func(key string) bool {
			return c.Mode == vm.KeysReplace || c.Mode == vm.KeysRemove && slices.Contains(c.Keys, key)
		})
		for _, key := range c.Keys {
			if c.Mode != vm.KeysRemove && !slices.Contains(keys, key) {
				keys = append(keys, key)
			}
		}
		put(&one.inside.keys, c.User, keys)
		return nil
	})
}

// SetPassword implements lifecycle.Guest.
func (g *Guest) SetPassword(ctx context.Context, id string, p vm.GuestPassword) error {
	return g.call(ctx, "SetPassword", id, func(one *fakeGuest) error {
		if err := one.inside.known(p.User); err != nil {
			return err
		}
		put(&one.inside.passwords, p.User, p)
		return nil
	})
}
