// SPDX-License-Identifier: Apache-2.0

package cobs_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/vmlet/vmlet/pkg/agentlink/cobs"
)

func ones(n int) []byte { return bytes.Repeat([]byte{1}, n) }

func TestFramesAreThoseOfThePaper(t *testing.T) {
	tests := map[string]struct{ plain, encoded []byte }{
		"nothing":               {nil, []byte{1}},
		"a zero":                {[]byte{0}, []byte{1, 1}},
		"a zero within":         {[]byte{0x11, 0x22, 0, 0x33}, []byte{3, 0x11, 0x22, 2, 0x33}},
		"a zero at the end":     {[]byte{0x11, 0}, []byte{2, 0x11, 1}},
		"a full run":            {ones(254), append([]byte{255}, ones(254)...)},
		"one more":              {ones(255), append(append([]byte{255}, ones(254)...), 2, 1)},
		"a full run and a zero": {append(ones(254), 0), append(append([]byte{255}, ones(254)...), 1, 1)},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if got := cobs.Append(nil, tt.plain); !bytes.Equal(got, tt.encoded) {
				t.Errorf("Append: %x, want %x", got, tt.encoded)
			}
			got, err := cobs.Decode(nil, tt.encoded)
			if err != nil || !bytes.Equal(got, tt.plain) {
				t.Errorf("Decode: %x, %v, want %x", got, err, tt.plain)
			}
		})
	}
}

func TestWhatWasNeverEncodedIsMalformed(t *testing.T) {
	for name, frame := range map[string][]byte{
		"nothing at all":       nil,
		"a zero":               {2, 0},
		"a run past the end":   {3, 1},
		"a code without bytes": {2, 1, 200},
	} {
		t.Run(name, func(t *testing.T) {
			if got, err := cobs.Decode(nil, frame); !errors.Is(err, cobs.ErrMalformed) {
				t.Errorf("got %x, %v", got, err)
			}
		})
	}
}

func FuzzRoundTrip(f *testing.F) {
	for _, n := range []int{0, 1, 253, 254, 255, 508, 509} {
		f.Add(ones(n))
	}
	f.Fuzz(func(t *testing.T, plain []byte) {
		encoded := cobs.Append(nil, plain)
		if len(encoded) > cobs.MaxLen(len(plain)) || bytes.IndexByte(encoded, 0) >= 0 {
			t.Fatalf("%d bytes became %d, zero at %d", len(plain), len(encoded), bytes.IndexByte(encoded, 0))
		}
		got, err := cobs.Decode(encoded[:0], encoded)
		if err != nil || !bytes.Equal(got, plain) {
			t.Fatalf("%x came back as %x, %v", plain, got, err)
		}
	})
}
