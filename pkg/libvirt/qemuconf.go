// SPDX-License-Identifier: Apache-2.0

package libvirt

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
)

// QEMUConf is what matters to us of qemu.conf, the settings of libvirt's QEMU driver.
type QEMUConf struct {
	// OwnCgroups: libvirt makes cgroups of its own for domains. The default is yes;
	// cgroup_controllers = [] is no.
	OwnCgroups bool
	// FileLogs: QEMU writes its log and our console spools itself (stdio_handler =
	// "file"). The default, virtlogd, rotates files in the middle of a line.
	FileLogs bool
}

// confToken matches what a qemu.conf is made of: comments, names, strings, numbers, signs.
var confToken = regexp.MustCompile(`#[^\n]*|[A-Za-z_][A-Za-z0-9_.]*|"[^"\n]*"|'[^'\n]*'|-?[0-9]+|[=\[\],]`)

// ParseQEMUConf reads the text of a qemu.conf: lines of name = value, where a value is a
// string, a number, or a list of strings over one or more lines.
func ParseQEMUConf(text string) (QEMUConf, error) {
	if rest := strings.TrimSpace(confToken.ReplaceAllString(text, "")); rest != "" {
		return QEMUConf{}, fmt.Errorf("qemu.conf: cannot read %q", rest)
	}
	tokens := slices.DeleteFunc(confToken.FindAllString(text, -1), func(token string) bool { return token[0] == '#' })
	conf := QEMUConf{OwnCgroups: true}
	for len(tokens) > 0 {
		s, rest, err := nextSetting(tokens)
		if err != nil {
			return QEMUConf{}, fmt.Errorf("qemu.conf: %w", err)
		}
		switch s.name {
		case "cgroup_controllers":
			conf.OwnCgroups = len(s.values) > 0
		case "stdio_handler":
			conf.FileLogs = slices.Equal(s.values, []string{"file"})
		}
		tokens = rest
	}
	return conf, nil
}

type setting struct {
	name   string
	values []string
}

// nextSetting takes one setting from the front of tokens. A list's commas are dropped.
func nextSetting(tokens []string) (s setting, rest []string, err error) {
	if len(tokens) < 3 || tokens[1] != "=" {
		return s, nil, fmt.Errorf("no value follows %q", tokens[0])
	}
	values, rest := tokens[2:3], tokens[3:]
	if tokens[2] == "[" {
		end := slices.Index(rest, "]")
		if end < 0 {
			return s, nil, fmt.Errorf("the list of %s has no end", tokens[0])
		}
		values, rest = rest[:end], rest[end+1:]
	}
	s.name = tokens[0]
	for _, value := range values {
		if value != "," {
			s.values = append(s.values, strings.Trim(value, `"'`))
		}
	}
	return s, rest, nil
}

// QEMUConf reads the configuration of the libvirtd behind our URI, as that libvirtd sees
// it, also when it has a mount namespace of its own. It returns the path it has read. What
// was changed in the file after libvirtd started is not in force yet; libvirt has no call
// that tells.
func (h *Hypervisor) QEMUConf(ctx context.Context) (conf QEMUConf, path string, err error) {
	pid, err := daemonPID(ctx, h.cfg.URI)
	if err != nil {
		return QEMUConf{}, "", fmt.Errorf("find libvirtd: %w", err)
	}
	path = fmt.Sprintf("%s/%d/root/etc/libvirt/qemu.conf", h.cfg.ProcRoot, pid)
	text, err := os.ReadFile(path)
	if err != nil {
		return QEMUConf{}, path, fmt.Errorf("read libvirtd's qemu.conf: %w", err)
	}
	conf, err = ParseQEMUConf(string(text))
	if err != nil {
		return QEMUConf{}, path, fmt.Errorf("%s: %w", path, err)
	}
	return conf, path, nil
}
