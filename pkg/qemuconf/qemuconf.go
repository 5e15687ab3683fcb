// SPDX-License-Identifier: Apache-2.0

// Package qemuconf reads what matters to vmlet from libvirt's qemu.conf. libvirt has no
// API that tells these settings.
package qemuconf

import (
	"bufio"
	"fmt"
	"os"
	"strings"
)

// Settings are the settings that decide how vmlet works with libvirt, with libvirt's
// own defaults where the file says nothing.
type Settings struct {
	// CgroupsOff: cgroup_controllers is an empty list, so libvirt leaves QEMU's groups
	// to us.
	CgroupsOff bool
	// StdioFile: stdio_handler is "file", so QEMU writes console spools itself instead
	// of virtlogd, which rotates them in the middle of a line.
	StdioFile bool
	// User and Group are what QEMU runs as, "" if the file does not say.
	User, Group string
}

// Read reads a qemu.conf.
func Read(path string) (Settings, error) {
	f, err := os.Open(path)
	if err != nil {
		return Settings{}, fmt.Errorf("read libvirt's configuration of QEMU: %w", err)
	}
	defer f.Close() //nolint:errcheck // read only
	var s Settings
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		key, value, ok := setting(lines)
		if !ok {
			continue
		}
		switch key {
		case "cgroup_controllers":
			s.CgroupsOff = strings.Trim(value, "[] \t") == ""
		case "stdio_handler":
			s.StdioFile = unquote(value) == "file"
		case "user":
			s.User = unquote(value)
		case "group":
			s.Group = unquote(value)
		}
	}
	if err := lines.Err(); err != nil {
		return Settings{}, fmt.Errorf("read %s: %w", path, err)
	}
	return s, nil
}

// setting reads `key = value`, where a list may go on over several lines and a comment
// may follow. See the comments of libvirt's qemu.conf.
func setting(lines *bufio.Scanner) (key, value string, ok bool) {
	key, value, ok = strings.Cut(uncomment(lines.Text()), "=")
	key, value = strings.TrimSpace(key), strings.TrimSpace(value)
	if !ok || key == "" {
		return "", "", false
	}
	for strings.HasPrefix(value, "[") && !strings.Contains(value, "]") && lines.Scan() {
		value += " " + strings.TrimSpace(uncomment(lines.Text()))
	}
	return key, value, true
}

func uncomment(line string) string {
	before, _, _ := strings.Cut(line, "#")
	return before
}

// unquote strips the quotes, and the "+" that makes a user a number.
func unquote(value string) string {
	return strings.TrimPrefix(strings.Trim(value, `"'`), "+")
}
