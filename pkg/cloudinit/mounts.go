// SPDX-License-Identifier: Apache-2.0

package cloudinit

import (
	"bytes"
	_ "embed"
	"encoding/base64"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/vm"
)

// maxSeedFiles bounds what all files have in bytes: the ISO is in memory when it is made,
// and the script in the guest's when it is run.
const maxSeedFiles = 4 << 20

// mountFunctions is the part of the script that is always the same.
//
//go:embed mount.sh
var mountFunctions []byte

// mountHook is a boothook that does once per boot what vmlet-agent would: it copies files to
// a tmpfs and binds them to their places, mounts the share, and sets sysctls. Not write_files and mounts
// of cloud-config, which a user's user-data of the same keys would replace. What changes
// on the host later does not reach the guest, nor the reverse; a share does both.
func mountHook(s vm.Seed) ([]byte, error) {
	out := bytes.NewBufferString(bootHook)
	out.Write(mountFunctions)
	total := 0
	for i, f := range s.Files {
		if err := checkTarget(f.Path); err != nil {
			return nil, err
		}
		if total += len(f.Content); total > maxSeedFiles {
			return nil, fmt.Errorf("the files have more than %d bytes: %w", maxSeedFiles, errdefs.ErrInvalidArgument)
		}
		fmt.Fprintf(out, "file %d %s %o %d:%d %s <<'END'\n", i, quote(f.Path), f.Mode&0o777, f.UID, f.GID, access(f.ReadOnly))
		out.WriteString(wrapped(base64.StdEncoding.EncodeToString(f.Content)))
		out.WriteString("END\n")
	}
	for _, m := range s.Shares {
		if err := checkTarget(m.GuestPath); err != nil {
			return nil, err
		}
		if m.Source == "" || !filepath.IsLocal(m.Source) {
			return nil, fmt.Errorf("mount at %s: %q is no place in the share: %w", m.GuestPath, m.Source, errdefs.ErrInvalidArgument)
		}
		// As with vmlet-agent: the host enforces the rest.
		fmt.Fprintf(out, "share %s %s %s\n", quote(m.Source), quote(m.GuestPath), access(m.ReadOnly && m.RecursiveReadOnly))
	}
	for _, name := range slices.Sorted(maps.Keys(s.Sysctls)) {
		if strings.ContainsAny(name+s.Sysctls[name], "\x00\n") || strings.Contains(name, "=") {
			return nil, fmt.Errorf("sysctl %q: no name and value on one line: %w", name, errdefs.ErrInvalidArgument)
		}
		fmt.Fprintf(out, "setting %s\n", quote(name+"="+s.Sysctls[name]))
	}
	return out.Bytes(), nil
}

func checkTarget(path string) error {
	if !filepath.IsAbs(path) || strings.ContainsAny(path, "\x00\n") {
		return fmt.Errorf("mount at %q: no absolute path on one line: %w", path, errdefs.ErrInvalidArgument)
	}
	return nil
}

func access(readOnly bool) string {
	if readOnly {
		return "ro"
	}
	return "rw"
}

// quote makes one word of a text, for a shell.
func quote(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }

// wrapped breaks base64 into lines that every reader takes.
func wrapped(text string) string {
	const width = 76
	var out strings.Builder
	for len(text) > width {
		out.WriteString(text[:width] + "\n")
		text = text[width:]
	}
	if text != "" {
		out.WriteString(text + "\n")
	}
	return out.String()
}
