// SPDX-License-Identifier: Apache-2.0

package seccomp

import (
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"

	"github.com/containerd/errdefs"
	"github.com/elastic/go-seccomp-bpf/arch"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// Where a filter finds what in struct seccomp_data (seccomp(2)). Arguments have 64 bits, in
// the byte order of the guest: little-endian, on all architectures here.
const (
	offNumber = 0
	offArch   = 4
	offArgs   = 16
	word      = 4
)

// x32Calls is the first number of x86-64's x32 calls. Debian and most others have them off,
// so they are answered as by a kernel without them.
const x32Calls = 0x40000000

// maxFilter is how many instructions the kernel takes (BPF_MAXINSNS).
const maxFilter = 4096

// guests are the architectures that filters are made for, and those that their kernels run
// beside, by the profile's name for it.
var guests = map[string]struct {
	native *arch.Info
	others map[specs.Arch]*arch.Info
}{
	"amd64": {arch.X86_64, map[specs.Arch]*arch.Info{specs.ArchX86: arch.I386}},
}

func compile(p *specs.LinuxSeccomp, goarch string) ([]byte, error) {
	guest, ok := guests[goarch]
	if !ok {
		return nil, fmt.Errorf("seccomp for guests of %s: %w", goarch, errdefs.ErrNotImplemented)
	}
	if p.ListenerPath != "" {
		return nil, fmt.Errorf("listenerPath needs a supervisor on the same kernel: %w", errdefs.ErrFailedPrecondition)
	}
	infos := []*arch.Info{guest.native}
	for _, name := range p.Architectures {
		if info, ok := guest.others[name]; ok && !slices.Contains(infos, info) {
			infos = append(infos, info)
		}
	}
	filter := []bpf.Instruction{bpf.LoadAbsolute{Off: offArch, Size: word}}
	for _, info := range infos {
		r, err := rulesFor(p, info)
		if err != nil {
			return nil, err
		}
		section := append([]bpf.Instruction{bpf.LoadAbsolute{Off: offNumber, Size: word}}, search(r.spans(info))...)
		filter = append(filter,
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(info.ID), SkipTrue: 1},
			bpf.Jump{Skip: uint32(len(section))})
		filter = append(filter, section...)
	}
	return encode(append(filter, bpf.RetConstant{Val: retKillProcess}))
}

// encode writes a filter as struct sock_filter, one after another.
func encode(filter []bpf.Instruction) ([]byte, error) {
	if len(filter) > maxFilter {
		return nil, fmt.Errorf("takes %d instructions, more than a kernel's %d: %w", len(filter), maxFilter, errdefs.ErrInvalidArgument)
	}
	raw, err := bpf.Assemble(filter)
	if err != nil {
		return nil, err
	}
	out := make([]byte, 0, 8*len(raw))
	for _, i := range raw {
		out = binary.LittleEndian.AppendUint16(out, i.Op)
		out = append(out, i.Jt, i.Jf)
		out = binary.LittleEndian.AppendUint32(out, i.K)
	}
	return out, nil
}

// span is a range of system calls, up to the next span's, that share a verdict.
type span struct {
	first uint32
	verdict
}

// spans are all numbers there are, in order.
func (r rules) spans(info *arch.Info) []span {
	var out []span
	put := func(first int, v verdict) {
		if n := len(out); n > 0 && out[n-1].otherwise == v.otherwise && reflect.DeepEqual(out[n-1].clauses, v.clauses) {
			return
		}
		out = append(out, span{uint32(first), v})
	}
	unnamed := verdict{otherwise: r.fallback}
	following := 0
	for _, number := range slices.Sorted(maps.Keys(r.byNumber)) {
		if number > following {
			put(following, unnamed)
		}
		put(number, *r.byNumber[number])
		following = number + 1
	}
	unknown := verdict{otherwise: retErrno | uint32(unix.ENOSYS)}
	if following > 0 && refuses(r.fallback) {
		put(following, unknown)
	} else {
		put(following, unnamed)
	}
	if info == arch.X86_64 {
		put(x32Calls, unknown)
	}
	return out
}

// refuses reports whether an action keeps the system call from being made.
func refuses(ret uint32) bool { return ret != retAllow && ret != retLog && ret&^retData != retTrace }

// search finds the span of the number in the accumulator, by halves, and does what it says.
func search(spans []span) []bpf.Instruction {
	if len(spans) == 1 {
		return decide(spans[0].verdict)
	}
	half := len(spans) / 2
	below, above := search(spans[:half]), search(spans[half:])
	jump := []bpf.Instruction{bpf.JumpIf{Cond: bpf.JumpGreaterOrEqual, Val: spans[half].first, SkipTrue: uint8(min(len(below), math.MaxUint8))}}
	if len(below) > math.MaxUint8 { // a conditional jump does not reach that far
		jump = []bpf.Instruction{
			bpf.JumpIf{Cond: bpf.JumpGreaterOrEqual, Val: spans[half].first, SkipFalse: 1},
			bpf.Jump{Skip: uint32(len(below))},
		}
	}
	return slices.Concat(jump, below, above)
}

// decide does what a verdict says.
func decide(v verdict) []bpf.Instruction {
	var out []bpf.Instruction
	for _, c := range v.clauses {
		out = append(out, c.instructions()...)
	}
	return append(out, bpf.RetConstant{Val: v.otherwise})
}
