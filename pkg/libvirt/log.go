// SPDX-License-Identifier: Apache-2.0

package libvirt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"github.com/containerd/errdefs"
	virt "libvirt.org/go/libvirt"

	"github.com/vmlet/vmlet/pkg/vm"
)

// logTail is how much of the end of a log is searched. libvirt's own lines are rare among
// what QEMU writes there, which a guest can make much of.
const logTail = 1 << 20

// logLine matches the lines that libvirt itself writes into QEMU's log, as of 9.0:
//
//	2026-11-21 08:16:53.207+0000: starting up libvirt version: 9.0.0, ...
//	2026-11-21 08:16:53.405+0000: shutting down, reason=destroyed
var logLine = regexp.MustCompile(
	`(?m)^(\d{4}-\d{2}-\d{2} \d{2}:\d{2}:\d{2}\.\d{3}[+-]\d{4}): (?:(starting up) .*|shutting down, reason=(\S+))$`)

const logTime = "2006-01-02 15:04:05.000-0700"

// LastShutdown implements lifecycle.Hypervisor.
func (h *Hypervisor) LastShutdown(ctx context.Context, id string) (vm.LastShutdown, error) {
	const operation = "read last shutdown"
	if err := h.with(ctx, operation, id, func(*virt.Domain) error { return nil }); err != nil {
		return vm.LastShutdown{}, err
	}
	tail, err := readTail(logPath(h.cfg.LogDir, id))
	if err != nil {
		return vm.LastShutdown{}, fmt.Errorf("%s of sandbox %s: %w", operation, id, err)
	}
	last, err := parseLog(tail)
	if err != nil {
		return vm.LastShutdown{}, fmt.Errorf("%s of sandbox %s: %w", operation, id, err)
	}
	return last, nil
}

// parseLog finds the end of the last run in a log. A log whose last run only began is
// NotFound: what ended before that is not the end that is asked for.
func parseLog(log []byte) (vm.LastShutdown, error) {
	lines := logLine.FindAllSubmatch(log, -1)
	if len(lines) == 0 || len(lines[len(lines)-1][2]) > 0 {
		return vm.LastShutdown{}, fmt.Errorf("QEMU's log tells of no end: %w", errdefs.ErrNotFound)
	}
	last := lines[len(lines)-1]
	at, err := time.Parse(logTime, string(last[1]))
	if err != nil {
		return vm.LastShutdown{}, fmt.Errorf("read QEMU's log: %w", err)
	}
	return vm.LastShutdown{Reason: string(last[3]), At: at.UTC()}, nil
}

// readTail reads the last logTail bytes of a file, cut to whole lines.
func readTail(path string) ([]byte, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %w", err, errdefs.ErrNotFound)
	}
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // it was only read
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	start := max(0, info.Size()-logTail)
	tail, err := io.ReadAll(io.NewSectionReader(f, start, logTail))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if start > 0 {
		_, tail, _ = bytes.Cut(tail, []byte("\n"))
	}
	return tail, nil
}

func logPath(dir, id string) string { return filepath.Join(dir, vm.DomainName(id)+".log") }

// removeLogs removes a domain's log, older ones that virtlogd has rotated, and those of its
// virtiofsd, libvirt's and ours.
func removeLogs(dir, id string) error {
	path := logPath(dir, id)
	files := []string{path}
	for _, pattern := range []string{path + ".[0-9]*", shareLogs(dir, id)} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			return fmt.Errorf("list the logs %s: %w", pattern, err)
		}
		files = append(files, found...)
	}
	var errs []error
	for _, file := range files {
		if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("remove QEMU's log: %w", err))
		}
	}
	return errors.Join(errs...)
}
