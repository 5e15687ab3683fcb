// SPDX-License-Identifier: Apache-2.0

package qga

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/vm"
)

// How much of a file goes with one command. The agent takes a command in by single characters, which a guest that is
// emulated in software does at some 100 KiB a second; what it answers is faster.
const (
	readPiece  = 256 << 10
	writePiece = 32 << 10
)

// Exit codes of the scripts that look after files.
var fileErrors = map[int]struct {
	text  string
	class error
}{
	43: {"it is there already", errdefs.ErrAlreadyExists},
	44: {"there is no such file or folder", errdefs.ErrNotFound},
	45: {"it is not a regular file", errdefs.ErrFailedPrecondition},
	47: {"a user of the guest may change its folder, and qemu-guest-agent would follow what is put there; vmlet-agent would not", errdefs.ErrFailedPrecondition},
}

// fileScript runs a script that looks after a file.
func (a *Agent) fileScript(ctx context.Context, id, path, script string, args ...string) ([]byte, error) {
	status, err := a.runScript(ctx, id, script, args...)
	if err != nil || status.code() == 0 {
		return status.Stdout, err
	}
	if known, ok := fileErrors[status.code()]; ok {
		return nil, fmt.Errorf("%s: %s: %w", path, known.text, known.class)
	}
	return nil, fmt.Errorf("%s: %s: %w", path, printable(string(status.Stderr)), errdefs.ErrFailedPrecondition)
}

// ReadFile reads a part of a file. begin is told of the file and returns where the content goes.
func (a *Agent) ReadFile(ctx context.Context, id string, req vm.ReadGuestFile, begin func(vm.GuestFile) (io.Writer, error)) (err error) {
	out, err := a.fileScript(ctx, id, req.Path, statScript, req.Path)
	if err != nil {
		return err
	}
	file, err := fileOf(strings.Fields(string(out)))
	if err != nil {
		return err
	}
	h, err := a.openFile(ctx, id, req.Path, "r")
	if err != nil {
		return err
	}
	defer h.close(ctx, &err)
	if req.Offset > 0 {
		arguments := map[string]any{"handle": h.handle, "offset": req.Offset, "whence": "set"}
		if err := a.command(ctx, id, commandTimeout, "guest-file-seek", arguments, nil); err != nil {
			return err
		}
	}
	to, err := begin(file)
	if err != nil {
		return err
	}
	return h.read(ctx, to, req.Span(file))
}

// fileOf reads what stat.sh prints.
func fileOf(fields []string) (vm.GuestFile, error) {
	if len(fields) != 5 {
		return vm.GuestFile{}, nonsense(errors.New("what is said of a file has other words"))
	}
	size, errSize := strconv.ParseInt(fields[0], 10, 64)
	mode, errMode := strconv.ParseUint(fields[1], 16, 32)
	uid, errUID := strconv.ParseUint(fields[2], 10, 32)
	gid, errGID := strconv.ParseUint(fields[3], 10, 32)
	seconds, errTime := strconv.ParseInt(fields[4], 10, 64)
	if err := errors.Join(errSize, errMode, errUID, errGID, errTime); err != nil || size < 0 {
		return vm.GuestFile{}, nonsense(errors.New("what is said of a file has other numbers"))
	}
	return vm.GuestFile{
		Size: size, Mode: uint32(mode) & 0o7777, UID: uint32(uid), GID: uint32(gid), Modified: time.Unix(seconds, 0),
	}, nil
}

// openFile is a file that the agent has open.
type openFile struct {
	agent  *Agent
	id     string
	handle int64
}

func (a *Agent) openFile(ctx context.Context, id, path, mode string) (*openFile, error) {
	h := &openFile{agent: a, id: id}
	err := a.command(ctx, id, commandTimeout, "guest-file-open", map[string]string{"path": path, "mode": mode}, &h.handle)
	return h, mend(err)
}

// close lets go of the file, also when ctx has ended: the agent would hold it for ever.
func (h *openFile) close(ctx context.Context, err *error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
	defer cancel()
	closeErr := h.agent.command(ctx, h.id, commandTimeout, "guest-file-close", map[string]int64{"handle": h.handle}, nil)
	if closeErr != nil && *err == nil {
		*err = fmt.Errorf("the agent may still hold the file: %w", closeErr)
	}
}

// content is what guest-file-read answers, decoded from base64.
type content struct {
	Data []byte `json:"buf-b64"`
	EOF  bool   `json:"eof"`
}

// read writes the next left bytes of the file to a writer, or fewer if it has not as many.
func (h *openFile) read(ctx context.Context, to io.Writer, left int64) error {
	for left > 0 {
		var c content
		ask := map[string]int64{"handle": h.handle, "count": min(left, readPiece)}
		if err := h.agent.command(ctx, h.id, commandTimeout, "guest-file-read", ask, &c); err != nil {
			return mend(err)
		}
		if int64(len(c.Data)) > min(left, readPiece) {
			return nonsense(errors.New("more of a file than was asked for"))
		}
		left -= int64(len(c.Data))
		if len(c.Data) > 0 {
			if _, err := to.Write(c.Data); err != nil {
				return err
			}
		}
		if c.EOF || len(c.Data) == 0 {
			return nil
		}
	}
	return nil
}

// WriteFile writes a file, whole or not at all, with what content brings until io.EOF. FailedPrecondition for a file in a
// folder that not only root may change.
func (a *Agent) WriteFile(ctx context.Context, id string, f vm.WriteGuestFile, content io.Reader) error {
	name, overwrite := "."+newTag(), flag(f.Overwrite)
	out, err := a.fileScript(ctx, id, f.Path, createScript, f.Path, filepath.Dir(f.Path), name, overwrite, flag(f.Parents))
	if err != nil {
		return err
	}
	if !filepath.IsAbs(string(out)) {
		return nonsense(errors.New("a folder without a path"))
	}
	temp, path := filepath.Join(string(out), name), filepath.Join(string(out), filepath.Base(f.Path))
	if err = a.fill(ctx, id, temp, content); err == nil {
		owner := fmt.Sprintf("%d:%d", f.UID, f.GID)
		_, err = a.fileScript(ctx, id, f.Path, placeScript, path, temp, overwrite, owner, strconv.FormatUint(uint64(f.Mode), 8))
	}
	if err != nil {
		return also(err, a.drop(ctx, id, temp))
	}
	return nil
}

func flag(is bool) string {
	if is {
		return "1"
	}
	return "0"
}

// fill writes what content brings into an empty file.
func (a *Agent) fill(ctx context.Context, id, temp string, content io.Reader) (err error) {
	h, err := a.openFile(ctx, id, temp, "r+") // "w" would make it everybody's
	if err != nil {
		return err
	}
	defer h.close(ctx, &err)
	for buf := make([]byte, writePiece); ; {
		n, readErr := io.ReadFull(content, buf)
		if readErr != nil && !errors.Is(readErr, io.EOF) && !errors.Is(readErr, io.ErrUnexpectedEOF) {
			return readErr
		}
		if err := h.write(ctx, buf[:n]); err != nil {
			return err
		}
		if readErr != nil {
			return mend(a.command(ctx, id, commandTimeout, "guest-file-flush", map[string]int64{"handle": h.handle}, nil))
		}
	}
}

// written is what guest-file-write answers.
type written struct {
	Count int `json:"count"`
}

// write writes all of b.
func (h *openFile) write(ctx context.Context, b []byte) error {
	for len(b) > 0 {
		var w written
		ask := map[string]any{"handle": h.handle, "buf-b64": b}
		if err := h.agent.command(ctx, h.id, commandTimeout, "guest-file-write", ask, &w); err != nil {
			return mend(err)
		}
		if w.Count <= 0 || w.Count > len(b) {
			return nonsense(fmt.Errorf("%d bytes written of %d", w.Count, len(b)))
		}
		b = b[w.Count:]
	}
	return nil
}

// drop removes a file that did not become one.
func (a *Agent) drop(ctx context.Context, id, temp string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
	defer cancel()
	if _, err := a.script(ctx, id, dropScript, temp); err != nil {
		return fmt.Errorf("%s may be left in the guest: %w", temp, err)
	}
	return nil
}
