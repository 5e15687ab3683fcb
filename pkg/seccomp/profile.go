// SPDX-License-Identifier: Apache-2.0

package seccomp

import (
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/containerd/errdefs"
	profiles "github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// maxProfile bounds a profile's file, in bytes. Docker's default one has 20 KiB.
const maxProfile = 1 << 20

// Default compiles the profile that containerd and Docker give a container by default, for
// a guest of the architecture (in Go's words) and a process with these capabilities
// ("CAP_SYS_ADMIN"): some system calls are let through only with one of them.
func Default(arch string, capabilities []string) ([]byte, error) {
	profile, err := profiles.GetDefaultProfile(processWith(capabilities))
	if err != nil {
		return nil, fmt.Errorf("default seccomp profile: %w", err)
	}
	return compile(profile, arch)
}

// File compiles the profile in a file: see Compile. NotFound if it is not there.
func File(path, arch string, capabilities []string) ([]byte, error) {
	profile, err := read(path)
	if err != nil {
		return nil, fmt.Errorf("seccomp profile %s: %w", path, err)
	}
	program, err := Compile(profile, arch, capabilities)
	if err != nil {
		return nil, fmt.Errorf("seccomp profile %s: %w", path, err)
	}
	return program, nil
}

// read opens the file so that a pipe in its place does not hold it up.
func read(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if os.IsNotExist(err) {
		return nil, fmt.Errorf("there is no such file: %w", errdefs.ErrNotFound)
	}
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // nothing was written
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("is no regular file: %w", errdefs.ErrInvalidArgument)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxProfile+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxProfile {
		return nil, fmt.Errorf("is longer than %d bytes: %w", maxProfile, errdefs.ErrInvalidArgument)
	}
	return text, nil
}

// Compile compiles a profile for a guest of the architecture and a process with these
// capabilities, which Docker's conditional rules ask for. InvalidArgument for one that is
// wrong, FailedPrecondition for what only a supervisor on the same kernel could serve.
func Compile(profile []byte, arch string, capabilities []string) ([]byte, error) {
	// The library takes an empty profile for none, and null in the list of rules down with it.
	var shape struct {
		DefaultAction string             `json:"defaultAction"`
		Syscalls      []*json.RawMessage `json:"syscalls"`
	}
	if err := json.Unmarshal(profile, &shape); err != nil {
		return nil, fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
	}
	if shape.DefaultAction == "" {
		return nil, fmt.Errorf("has no defaultAction: %w", errdefs.ErrInvalidArgument)
	}
	for i, rule := range shape.Syscalls {
		if rule == nil {
			return nil, fmt.Errorf("syscalls[%d] is null: %w", i, errdefs.ErrInvalidArgument)
		}
	}
	loaded, err := profiles.LoadProfile(string(profile), processWith(capabilities))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
	}
	return compile(loaded, arch)
}

func processWith(capabilities []string) *specs.Spec {
	return &specs.Spec{Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{Bounding: capabilities}}}
}
