// SPDX-License-Identifier: Apache-2.0

package vmapi

import (
	"fmt"
	"path"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/vm"
	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
)

const (
	// maxGuestPath is Linux's PATH_MAX with its end.
	maxGuestPath = 4095
	// maxUserName is more than any system's.
	maxUserName = 256
	// defaultFileMode is that of a file whose caller does not say.
	defaultFileMode = 0o644
)

var (
	guestAgents = map[vm.GuestAgentKind]vmletv1.GuestAgent{
		vm.AgentVMlet: vmletv1.GuestAgent_GUEST_AGENT_VMLET,
		vm.AgentQEMU:  vmletv1.GuestAgent_GUEST_AGENT_QEMU,
	}
	keysModes = map[vmletv1.AuthorizedKeysMode]vm.KeysMode{
		vmletv1.AuthorizedKeysMode_AUTHORIZED_KEYS_MODE_REPLACE: vm.KeysReplace,
		vmletv1.AuthorizedKeysMode_AUTHORIZED_KEYS_MODE_ADD:     vm.KeysAdd,
		vmletv1.AuthorizedKeysMode_AUTHORIZED_KEYS_MODE_REMOVE:  vm.KeysRemove,
	}
	// guestFields are where GuestInfoResponse has the facts.
	guestFields = map[vm.GuestFact]string{
		vm.FactAgentVersion: "agent_version",
		vm.FactOS:           "os",
		vm.FactHostname:     "hostname",
		vm.FactBootID:       "boot_id",
		vm.FactUptime:       "uptime_ms",
		vm.FactClock:        "clock_unix_ns",
		vm.FactLogins:       "users",
		vm.FactFilesystems:  "filesystems",
		vm.FactInterfaces:   "interfaces",
	}
)

func guestInfo(i vm.GuestInfo) *vmletv1.GuestInfoResponse {
	out := &vmletv1.GuestInfoResponse{
		Agent:        guestAgents[i.Agent],
		AgentVersion: i.AgentVersion,
		Os: &vmletv1.GuestOS{
			Id: i.OSID, Version: i.OSVersion, PrettyName: i.OS, KernelRelease: i.Kernel, Machine: i.Machine,
		},
		Hostname: i.Hostname,
		BootId:   i.BootID,
		UptimeMs: i.Uptime.Milliseconds(),
	}
	if !i.Clock.IsZero() {
		out.ClockUnixNs = i.Clock.UnixNano()
	}
	for _, l := range i.Logins {
		out.Users = append(out.Users, &vmletv1.GuestUser{Name: l.User, Terminal: l.Terminal, Host: l.Host, LoginUnixNs: l.At.UnixNano()})
	}
	for _, f := range i.Filesystems {
		out.Filesystems = append(out.Filesystems, &vmletv1.GuestFilesystem{
			Device: f.Device, MountPoint: f.MountPoint, Type: f.Type, TotalBytes: f.Total, UsedBytes: f.Used,
		})
	}
	for _, n := range i.Interfaces {
		one := &vmletv1.GuestInterface{Name: n.Name, Mac: n.MAC}
		for _, a := range n.Addresses {
			one.Addresses = append(one.Addresses, a.String())
		}
		out.Interfaces = append(out.Interfaces, one)
	}
	for _, fact := range i.Unknown {
		out.UnknownFields = append(out.UnknownFields, guestFields[fact])
	}
	return out
}

// checkGuestPath refuses what names no file of a guest.
func checkGuestPath(p string) error {
	if !path.IsAbs(p) || path.Clean(p) != p || len(p) > maxGuestPath || strings.ContainsRune(p, 0) {
		return fmt.Errorf("path: %.64q must be absolute, without \"..\", \".\" or doubled slashes, and of at most %d bytes: %w",
			p, maxGuestPath, errdefs.ErrInvalidArgument)
	}
	return nil
}

// checkUser refuses what is no name of a user.
func checkUser(name string) error {
	if name == "" || len(name) > maxUserName || strings.ContainsAny(name, ":/ \t\n\r\x00") || name[0] == '-' {
		return fmt.Errorf("user: %.64q is no user's name: %w", name, errdefs.ErrInvalidArgument)
	}
	return nil
}

// writeGuestFile converts the first message of a write's stream.
func writeGuestFile(req *vmletv1.WriteGuestFileRequest) (vm.WriteGuestFile, error) {
	f := vm.WriteGuestFile{
		Path: req.GetPath(), Mode: defaultFileMode, UID: req.GetUid(), GID: req.GetGid(),
		Overwrite: req.GetOverwrite(), Parents: req.GetParents(),
	}
	if req.Mode != nil {
		f.Mode = req.GetMode()
	}
	if f.Mode > 0o7777 {
		return f, fmt.Errorf("mode: %#o has more than the 12 permission bits: %w", f.Mode, errdefs.ErrInvalidArgument)
	}
	const unchanged = 1<<32 - 1 // to the kernel this ID means: as it is
	if f.UID == unchanged || f.GID == unchanged {
		return f, fmt.Errorf("uid, gid: %d is no ID: %w", uint32(unchanged), errdefs.ErrInvalidArgument)
	}
	return f, nil
}
