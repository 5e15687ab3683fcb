// SPDX-License-Identifier: Apache-2.0

package image

import (
	"bytes"
	"fmt"
	"unicode"
	"unicode/utf8"

	"github.com/containerd/errdefs"
	"github.com/lima-vm/go-qcow2reader"
	foreign "github.com/lima-vm/go-qcow2reader/image"
	"github.com/lima-vm/go-qcow2reader/image/qcow2"
	"github.com/lima-vm/go-qcow2reader/image/raw"

	"github.com/vmlet/vmlet/pkg/qcow2head"
	"github.com/vmlet/vmlet/pkg/vm"
)

// headSize is how much of a disk's beginning is looked at.
const headSize = qcow2head.Size

// sector is what the size of a disk is a multiple of, in bytes.
const sector = 512

// facts are what judging a disk finds out.
type facts struct {
	format  vm.DiskFormat
	virtual int64 // size that a guest sees, in bytes
}

// judge says what a disk is, from its first headSize bytes (or all, if it has fewer) and
// its size in bytes, or why it is refused (FailedPrecondition). A negative size is one not
// known yet: what can be refused without it, is. declared is the format that the disk
// came labelled with, "" for none; limit bounds the virtual size.
//
// A raw disk has nothing to know it by. So what looks like something else is refused by
// name, and the rest is raw.
func judge(head []byte, size int64, declared vm.DiskFormat, limit int64) (facts, error) {
	found := facts{format: vm.FormatRaw, virtual: size}
	if other := otherFormat(head); other != "" {
		return facts{}, refused("the disk is %s; qcow2 and raw disks are what can be stored", other)
	}
	if bytes.HasPrefix(head, []byte(qcow2head.Magic)) {
		found.format = vm.FormatQCOW2
	}
	if declared != "" && declared != found.format {
		// Above all no qcow2 as raw: its bytes would be a guest's to rewrite, and a later
		// look at them could open whatever file they name.
		return facts{}, refused("the disk is labelled %s and is %s", declared, found.format)
	}
	switch {
	case found.format == vm.FormatQCOW2:
		virtual, err := qcow2head.Check(head, size)
		if err != nil {
			return facts{}, err
		}
		found.virtual = virtual
	case size == 0 || size > 0 && size%sector != 0:
		return facts{}, refused("%d bytes are not a raw disk: its size is a multiple of %d, and this is no qcow2 either", size, sector)
	}
	if found.virtual > limit {
		return facts{}, refused("the disk has %d bytes, %d are allowed", found.virtual, limit)
	}
	return found, nil
}

// magics are formats that people mistake for disks, or forget to unpack.
var magics = []struct {
	at    int
	magic string
	what  string
}{
	{0, "QED\x00", "a QED image"},
	{0, "\x1f\x8b", "compressed with gzip"},
	{0, "\x28\xb5\x2f\xfd", "compressed with zstd"},
	{0, "\xfd7zXZ\x00", "compressed with xz"},
	{0, "BZh", "compressed with bzip2"},
	{0, "PK\x03\x04", "a zip archive"},
	{0, "\x7fELF", "an ELF file"},
	{257, "ustar", "a tar archive"},
}

// otherFormat names what a head belongs to if that is neither a qcow2 nor, as far as one
// can tell, a raw disk.
func otherFormat(head []byte) string {
	for _, m := range magics {
		if len(head) > m.at && bytes.HasPrefix(head[m.at:], []byte(m.magic)) {
			return m.what
		}
	}
	for _, t := range qcow2reader.Types {
		if t != qcow2.Type && t != raw.Type && probe(head, t) {
			return fmt.Sprintf("a %s image", t)
		}
	}
	if isText(head) {
		return "a text file"
	}
	return ""
}

// probe tells whether a head has the mark of a format. go-qcow2reader does nothing but
// compare for these; it would do more for qcow2, so it is not asked about that.
func probe(head []byte, t foreign.Type) bool {
	img, err := qcow2reader.OpenWithType(bytes.NewReader(head), t)
	if err != nil {
		return false
	}
	return img.Close() == nil
}

// isText looks at the first sector. In a disk that is code or zeros.
func isText(head []byte) bool {
	if len(head) > sector {
		head = head[:sector]
		// The cut may have gone through a character.
		for i := 1; i < utf8.UTFMax && !utf8.Valid(head); i++ {
			head = head[:sector-i]
		}
	}
	notText := func(r rune) bool { return unicode.IsControl(r) && r != '\n' && r != '\r' && r != '\t' && r != '\f' }
	return len(head) > 0 && utf8.Valid(head) && bytes.IndexFunc(head, notText) < 0
}

func refused(format string, args ...any) error {
	return fmt.Errorf(format+": %w", append(args, errdefs.ErrFailedPrecondition)...)
}
