// SPDX-License-Identifier: Apache-2.0

package saveimage

import (
	"bytes"
	"encoding/binary"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
)

// file is what libvirt writes: room is what it leaves behind the cookie.
func file(xml, cookie string, format uint32, room int) []byte {
	h := &Head{length: 0}
	copy(h.header[:], magic)
	binary.NativeEndian.PutUint32(h.header[atVersion:], version)
	binary.NativeEndian.PutUint32(h.header[atFormat:], format)
	h.cookie = []byte(cookie)
	h.length = len(xml) + len(cookie) + 2 + room
	out, err := h.With(xml)
	if err != nil {
		panic(err)
	}
	return append(out, "the stream"...)
}

func TestTheXMLIsReplacedAndNothingElse(t *testing.T) {
	for _, tc := range []struct {
		name, xml, cookie string
		room              int
		stays             bool
	}{
		{"shorter", "<a/>", "<cookie/>", 0, true},
		{"in the room that is left", strings.Repeat("x", 200), "<cookie/>", 1024, true},
		{"longer", strings.Repeat("x", 9000), "<cookie/>", 100, false},
		{"longer, without a cookie", strings.Repeat("x", 9000), "", 100, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			was := file("<domain>old</domain>", tc.cookie, 0, tc.room)
			r := bytes.NewReader(was)
			h, err := Read(r)
			if err != nil || h.XML != "<domain>old</domain>" {
				t.Fatalf("%+v, %v", h, err)
			}
			stream, err := io.ReadAll(r)
			if err != nil {
				t.Fatal(err)
			}
			head, err := h.With(tc.xml)
			if err != nil {
				t.Fatal(err)
			}
			now := slices.Concat(head, stream)
			if tc.stays != (len(now) == len(was)) {
				t.Errorf("%d bytes, were %d", len(now), len(was))
			}
			if !tc.stays && len(head)%block != 0 {
				t.Errorf("the stream is at %d", len(head))
			}
			again := bytes.NewReader(now)
			got, err := Read(again)
			if err != nil || got.XML != tc.xml || string(got.cookie) != tc.cookie {
				t.Errorf("%+v, %v", got, err)
			}
			if rest, err := io.ReadAll(again); err != nil || string(rest) != "the stream" {
				t.Errorf("the stream is %q, %v", rest, err)
			}
		})
	}
}

func TestAStreamThatNamesPlacesIsNotMoved(t *testing.T) {
	h, err := Read(bytes.NewReader(file("<a/>", "", lastStream+1, 10)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.With("<ab/>"); err != nil {
		t.Errorf("with room: %v", err)
	}
	if _, err := h.With(strings.Repeat("x", 5000)); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("without: %v", err)
	}
}

func TestWhatIsNoHeadIsRefused(t *testing.T) {
	good := file("<a/>", "<c/>", 0, 0)
	for name, change := range map[string]func([]byte) []byte{
		"empty":          func([]byte) []byte { return nil },
		"cut in header":  func(b []byte) []byte { return b[:50] },
		"cut in XML":     func(b []byte) []byte { return b[:headerSize+3] },
		"partial":        func(b []byte) []byte { copy(b, "LibvirtQemudPart"); return b },
		"other version":  func(b []byte) []byte { b[atVersion] = 9; return b },
		"no data":        func(b []byte) []byte { clear(b[atLength : atLength+4]); return b },
		"too much data":  func(b []byte) []byte { b[atLength+3] = 0x7f; return b },
		"cookie outside": func(b []byte) []byte { b[atCookie+1] = 0x7f; return b },
	} {
		if _, err := Read(bytes.NewReader(change(bytes.Clone(good)))); !errdefs.IsFailedPrecondition(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
