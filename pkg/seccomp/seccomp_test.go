// SPDX-License-Identifier: Apache-2.0

package seccomp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/elastic/go-seccomp-bpf/arch"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

const (
	allowed = uint32(retAllow)
	denied  = uint32(retErrno | unix.EPERM)
	unknown = uint32(retErrno | unix.ENOSYS)
	killed  = uint32(retKillProcess)
)

// decode makes instructions of a program again, and fails for one that no kernel takes.
func decode(tb testing.TB, program []byte) []bpf.Instruction {
	tb.Helper()
	if len(program) == 0 || len(program)%8 != 0 || len(program) > 8*maxFilter {
		tb.Fatalf("%d bytes are no filter", len(program))
	}
	var raw []bpf.RawInstruction
	for b := program; len(b) > 0; b = b[8:] {
		raw = append(raw, bpf.RawInstruction{Op: binary.LittleEndian.Uint16(b), Jt: b[2], Jf: b[3], K: binary.LittleEndian.Uint32(b[4:])})
	}
	instructions, ok := bpf.Disassemble(raw)
	if !ok {
		tb.Fatal("a program does not decode")
	}
	return instructions
}

// ask runs a filter as a kernel does. The interpreter loads big-endian words, so that is
// how the system call is laid out for it.
func ask(tb testing.TB, program []byte, id arch.AuditArch, number uint32, args ...uint64) uint32 {
	tb.Helper()
	vm, err := bpf.NewVM(decode(tb, program))
	if err != nil {
		tb.Fatal(err)
	}
	data := make([]byte, offArgs+8*arguments)
	binary.BigEndian.PutUint32(data[offNumber:], number)
	binary.BigEndian.PutUint32(data[offArch:], uint32(id))
	for i, a := range args {
		binary.BigEndian.PutUint32(data[offArgs+8*i:], uint32(a))
		binary.BigEndian.PutUint32(data[offArgs+8*i+word:], uint32(a>>32))
	}
	ret, err := vm.Run(data)
	if err != nil {
		tb.Fatal(err)
	}
	return uint32(ret)
}

func call(tb testing.TB, program []byte, name string, args ...uint64) uint32 {
	tb.Helper()
	return ask(tb, program, arch.X86_64.ID, uint32(arch.X86_64.SyscallNames[name]), args...)
}

func mustCompile(t *testing.T, profile string) []byte {
	t.Helper()
	program, err := Compile([]byte(profile), "amd64", nil)
	if err != nil {
		t.Fatal(err)
	}
	return program
}

func TestDefaultLetsThroughWhatContainersNeedAndNoMore(t *testing.T) {
	program, err := Default("amd64", nil)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(program) / 8; n > 1500 {
		t.Errorf("%d instructions: every container's record holds them", n)
	}
	for name, want := range map[string]uint32{
		"read": allowed, "openat": allowed, "execve": allowed, "exit_group": allowed, "futex": allowed,
		"mount": denied, "reboot": denied, "init_module": denied, "bpf": denied, "sethostname": denied, "keyctl": denied,
		"clone3": unknown, // so that glibc falls back to clone, whose flags a filter sees
	} {
		if got := call(t, program, name); got != want {
			t.Errorf("%s: %#x, want %#x", name, got, want)
		}
	}
	if got := call(t, program, "clone", unix.CLONE_NEWUSER); got != denied {
		t.Errorf("clone of a user namespace: %#x", got)
	}
	if got := call(t, program, "clone", uint64(unix.SIGCHLD)); got != allowed {
		t.Errorf("fork: %#x", got)
	}
	if got := call(t, program, "personality", 0xffffffff); got != allowed {
		t.Errorf("asking for the personality: %#x", got)
	}
	if got := ask(t, program, arch.I386.ID, uint32(arch.I386.SyscallNames["mount"])); got != denied {
		t.Errorf("mount of a 32-bit program: %#x", got)
	}
	if got := ask(t, program, arch.I386.ID, uint32(arch.I386.SyscallNames["read"])); got != allowed {
		t.Errorf("read of a 32-bit program: %#x", got)
	}
}

func TestDefaultFollowsTheCapabilities(t *testing.T) {
	program, err := Default("amd64", []string{"CAP_SYS_ADMIN"})
	if err != nil {
		t.Fatal(err)
	}
	if got := call(t, program, "mount"); got != allowed {
		t.Errorf("mount with CAP_SYS_ADMIN: %#x", got)
	}
	if got := call(t, program, "reboot"); got != denied {
		t.Errorf("reboot without CAP_SYS_BOOT: %#x", got)
	}
}

func TestWhatNoProfileCanNameIsAsOnAnOlderKernel(t *testing.T) {
	deny := mustCompile(t, `{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["read","write"],"action":"SCMP_ACT_ALLOW"}]}`)
	allow := mustCompile(t, `{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["read"],"action":"SCMP_ACT_ERRNO"}]}`)
	for _, tt := range []struct {
		what    string
		program []byte
		id      arch.AuditArch
		number  uint32
		want    uint32
	}{
		{"older than the newest that is named", mustCompile(t, `{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["close"],"action":"SCMP_ACT_ALLOW"}]}`), arch.X86_64.ID, 2, denied},
		{"newer, where the rest is refused", deny, arch.X86_64.ID, 2, unknown},
		{"newer, where the rest is allowed", allow, arch.X86_64.ID, 9999, allowed},
		{"x32, where the rest is refused", deny, arch.X86_64.ID, x32Calls, unknown},
		{"x32, where the rest is allowed", allow, arch.X86_64.ID, x32Calls, unknown},
		{"another architecture", allow, arch.I386.ID, 4, killed},
		{"the last number", deny, arch.X86_64.ID, 0xffffffff, unknown},
	} {
		if got := ask(t, tt.program, tt.id, tt.number); got != tt.want {
			t.Errorf("%s: %#x, want %#x", tt.what, got, tt.want)
		}
	}
}

func TestConditionsCompareAllOfAnArgument(t *testing.T) {
	const v = 0x1_0000_0005
	for op, holding := range map[string][]uint64{
		"EQ": {v},
		"NE": {v - 1, v + 1, 5, 0, 0x2_0000_0005, 1 << 63},
		"GT": {v + 1, 0x2_0000_0000, 1 << 63},
		"GE": {v, v + 1, 0x2_0000_0000, 1 << 63},
		"LT": {v - 1, 0xffff_ffff, 5, 0},
		"LE": {v, v - 1, 0xffff_ffff, 5, 0},
	} {
		program := mustCompile(t, fmt.Sprintf(`{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[
			{"names":["lseek"],"action":"SCMP_ACT_ALLOW","args":[{"index":5,"value":%d,"op":"SCMP_CMP_%s"}]}]}`, uint64(v), op))
		for _, arg := range []uint64{v, v - 1, v + 1, 5, 0, 0xffff_ffff, 0x2_0000_0000, 0x2_0000_0005, 1 << 63} {
			want := denied
			for _, h := range holding {
				if h == arg {
					want = allowed
				}
			}
			switch { // what the list above leaves out on purpose
			case op == "NE" && arg != v, (op == "GT" || op == "GE") && arg > v, (op == "LT" || op == "LE") && arg < v:
				want = allowed
			}
			if got := call(t, program, "lseek", 0, 0, 0, 0, 0, arg); got != want {
				t.Errorf("%#x %s %#x: %#x, want %#x", arg, op, uint64(v), got, want)
			}
		}
	}
}

func TestRulesOfOneCall(t *testing.T) {
	program := mustCompile(t, `{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[
		{"names":["socket"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":1,"op":"SCMP_CMP_EQ"},{"index":1,"value":2,"op":"SCMP_CMP_EQ"}]},
		{"names":["socket"],"action":"SCMP_ACT_KILL_PROCESS","args":[{"index":0,"value":7,"op":"SCMP_CMP_EQ"}]},
		{"names":["socket"],"action":"SCMP_ACT_LOG"},
		{"names":["clone"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":240,"valueTwo":16,"op":"SCMP_CMP_MASKED_EQ"}]},
		{"names":["personality"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":3,"op":"SCMP_CMP_EQ"},{"index":0,"value":9,"op":"SCMP_CMP_EQ"}]},
		{"names":["no_such_call","close"],"action":"SCMP_ACT_TRAP"}]}`)
	for _, tt := range []struct {
		name string
		args []uint64
		want uint32
	}{
		{"socket", []uint64{1, 2}, allowed},
		{"socket", []uint64{1, 3}, retLog},
		{"socket", []uint64{7, 2}, killed},
		{"clone", []uint64{0xf16 &^ 0xe0}, allowed},
		{"clone", []uint64{0x30}, denied},
		{"clone", []uint64{0x10 | 1<<40}, allowed}, // the mask leaves the upper half out
		{"personality", []uint64{3}, allowed},
		{"personality", []uint64{9}, allowed},
		{"personality", []uint64{4}, denied},
		{"close", nil, retTrap},
	} {
		if got := call(t, program, tt.name, tt.args...); got != tt.want {
			t.Errorf("%s %#x: %#x, want %#x", tt.name, tt.args, got, tt.want)
		}
	}
}

func TestErrnoIsTheProfiles(t *testing.T) {
	program := mustCompile(t, `{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":2,"syscalls":[
		{"names":["close"],"action":"SCMP_ACT_ERRNO","errnoRet":13},{"names":["io_setup"],"action":"SCMP_ACT_ALLOW"}]}`)
	if got := call(t, program, "close"); got != retErrno|13 {
		t.Errorf("close: %#x", got)
	}
	if got := call(t, program, "open"); got != retErrno|2 {
		t.Errorf("the default: %#x", got)
	}
}

func TestProfilesThatAreRefused(t *testing.T) {
	for profile, class := range map[string]error{
		``:                                    errdefs.ErrInvalidArgument,
		`{}`:                                  errdefs.ErrInvalidArgument,
		`null`:                                errdefs.ErrInvalidArgument,
		`{"defaultAction":"SCMP_ACT_HOPE"}`:   errdefs.ErrInvalidArgument,
		`{"defaultAction":"SCMP_ACT_NOTIFY"}`: errdefs.ErrFailedPrecondition,
		`{"defaultAction":"SCMP_ACT_ALLOW","listenerPath":"/run/l"}`:                                                                             errdefs.ErrFailedPrecondition,
		`{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[null]}`:                                                                                   errdefs.ErrInvalidArgument,
		`{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":65536}`:                                                                             errdefs.ErrInvalidArgument,
		`{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["read"],"action":"x"}]}`:                                                        errdefs.ErrInvalidArgument,
		`{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["read"],"action":"SCMP_ACT_LOG","args":[{"index":6}]}]}`:                        errdefs.ErrInvalidArgument,
		`{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["read"],"action":"SCMP_ACT_LOG","args":[{"op":"="}]}]}`:                         errdefs.ErrInvalidArgument,
		`{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["read"],"action":"SCMP_ACT_LOG"},{"names":["read"],"action":"SCMP_ACT_TRAP"}]}`: errdefs.ErrInvalidArgument,
	} {
		if _, err := Compile([]byte(profile), "amd64", nil); !errors.Is(err, class) {
			t.Errorf("%s: %v, want %v", profile, err, class)
		}
	}
	if _, err := Default("s390x", nil); !errors.Is(err, errdefs.ErrNotImplemented) {
		t.Errorf("another architecture: %v", err)
	}
}

func TestAFilterThatNoKernelTakesIsRefused(t *testing.T) {
	var calls []string
	for name := range arch.X86_64.SyscallNames {
		calls = append(calls, fmt.Sprintf(`{"names":[%q],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":%d,"op":"SCMP_CMP_EQ"},{"index":1,"value":1,"op":"SCMP_CMP_EQ"},{"index":2,"value":1,"op":"SCMP_CMP_EQ"}]}`, name, len(calls)))
	}
	_, err := Compile([]byte(`{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[`+strings.Join(calls, ",")+`]}`), "amd64", nil)
	if !errors.Is(err, errdefs.ErrInvalidArgument) || !strings.Contains(err.Error(), "4096") {
		t.Errorf("%v", err)
	}
}

func TestFilesOfProfiles(t *testing.T) {
	dir := t.TempDir()
	good, long, wrong, pipe := filepath.Join(dir, "good.json"), filepath.Join(dir, "long.json"), filepath.Join(dir, "wrong.json"), filepath.Join(dir, "pipe")
	for path, text := range map[string]string{good: `{"defaultAction":"SCMP_ACT_ALLOW"}`, long: strings.Repeat(" ", maxProfile+1), wrong: "{"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, class := range map[string]error{
		filepath.Join(dir, "absent"): errdefs.ErrNotFound, long: errdefs.ErrInvalidArgument, wrong: errdefs.ErrInvalidArgument,
		pipe: errdefs.ErrInvalidArgument, dir: errdefs.ErrInvalidArgument,
	} {
		if _, err := File(path, "amd64", nil); !errors.Is(err, class) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v, want %v", path, err, class)
		}
	}
	if program, err := File(good, "amd64", nil); err != nil || call(t, program, "read") != allowed {
		t.Errorf("%v", err)
	}
}

// Whatever compiles is a program that a kernel takes, and that answers every call.
func FuzzProfile(f *testing.F) {
	f.Add([]byte(`{"defaultAction":"SCMP_ACT_ERRNO","architectures":["SCMP_ARCH_X86"],"syscalls":[{"names":["read","clone"],"action":"SCMP_ACT_ALLOW","args":[{"index":1,"value":1,"valueTwo":2,"op":"SCMP_CMP_MASKED_EQ"}]}]}`), uint32(3), uint64(7))
	f.Add([]byte(`{"defaultAction":"SCMP_ACT_ALLOW","archMap":[{"architecture":"SCMP_ARCH_X86_64","subArchitectures":["SCMP_ARCH_X86"]}],"syscalls":[{"name":"chmod","action":"SCMP_ACT_ERRNO","includes":{"minKernel":"4.8"}}]}`), uint32(90), uint64(0))
	f.Fuzz(func(t *testing.T, profile []byte, number uint32, arg uint64) {
		program, err := Compile(profile, "amd64", []string{"CAP_CHOWN"})
		if err != nil {
			if !errors.Is(err, errdefs.ErrInvalidArgument) && !errors.Is(err, errdefs.ErrFailedPrecondition) {
				t.Fatalf("%v has no class that blames the profile", err)
			}
			return
		}
		for _, id := range []arch.AuditArch{arch.X86_64.ID, arch.I386.ID, 0} {
			ask(t, program, id, number, arg, arg, arg, arg, arg, arg)
		}
	})
}
