// SPDX-License-Identifier: Apache-2.0

package seccomp

import (
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/net/bpf"
)

// target is where a step goes on.
type target int

const (
	next  target = iota // with the next step
	holds               // behind the condition
	fails               // behind the clause
)

// step is an instruction or, where that is nil, a test of the accumulator.
type step struct {
	instruction bpf.Instruction
	test        bpf.JumpTest
	value       uint32
	yes, no     target
}

// instructions return the clause's result if all conditions hold, and end behind it if not.
func (c clause) instructions() []bpf.Instruction {
	var steps []step
	var ends []int // where the condition of each step ends
	for _, condition := range c.conditions {
		part := conditionSteps(condition)
		for range part {
			ends = append(ends, len(steps)+len(part))
		}
		steps = append(steps, part...)
	}
	out := make([]bpf.Instruction, 0, len(steps)+1)
	for i, s := range steps {
		if s.instruction != nil {
			out = append(out, s.instruction)
			continue
		}
		skip := func(to target) uint8 {
			switch to {
			case holds:
				return uint8(ends[i] - i - 1)
			case fails:
				return uint8(len(steps) - i)
			case next:
			}
			return 0
		}
		out = append(out, bpf.JumpIf{Cond: s.test, Val: s.value, SkipTrue: skip(s.yes), SkipFalse: skip(s.no)})
	}
	return append(out, bpf.RetConstant{Val: c.ret})
}

// conditionSteps compares an argument of 64 bits by halves, the upper one first.
func conditionSteps(a specs.LinuxSeccompArg) []step {
	lower := uint32(offArgs + 8*a.Index)
	loadLower, loadUpper := load(lower), load(lower+word)
	valueUpper, valueLower := uint32(a.Value>>32), uint32(a.Value)
	equal := func(value uint32, yes, no target) step { return step{nil, bpf.JumpEqual, value, yes, no} }
	greater := func(value uint32, yes, no target) step { return step{nil, bpf.JumpGreaterThan, value, yes, no} }
	atLeast := func(value uint32, yes, no target) step { return step{nil, bpf.JumpGreaterOrEqual, value, yes, no} }

	// ordered decides by the upper half unless that is equal.
	ordered := func(above, below target, last step) []step {
		return []step{loadUpper, greater(valueUpper, above, next), equal(valueUpper, next, below), loadLower, last}
	}
	switch a.Op {
	case specs.OpEqualTo:
		return []step{loadUpper, equal(valueUpper, next, fails), loadLower, equal(valueLower, holds, fails)}
	case specs.OpNotEqual:
		return []step{loadUpper, equal(valueUpper, next, holds), loadLower, equal(valueLower, fails, holds)}
	case specs.OpGreaterThan:
		return ordered(holds, fails, greater(valueLower, holds, fails))
	case specs.OpGreaterEqual:
		return ordered(holds, fails, atLeast(valueLower, holds, fails))
	case specs.OpLessThan:
		return ordered(fails, holds, atLeast(valueLower, fails, holds))
	case specs.OpLessEqual:
		return ordered(fails, holds, greater(valueLower, fails, holds))
	case specs.OpMaskedEqual: // value is the mask
		return []step{
			loadUpper, and(valueUpper), equal(uint32(a.ValueTwo>>32), next, fails),
			loadLower, and(valueLower), equal(uint32(a.ValueTwo), holds, fails),
		}
	}
	panic("seccomp: condition that split let through: " + string(a.Op))
}

func load(offset uint32) step {
	return step{instruction: bpf.LoadAbsolute{Off: offset, Size: word}}
}

func and(mask uint32) step { return step{instruction: bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: mask}} }
