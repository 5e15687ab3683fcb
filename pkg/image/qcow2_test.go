// SPDX-License-Identifier: Apache-2.0

package image

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/qcow2head"
	"github.com/vmlet/vmlet/pkg/vm"
)

const noLimit = 1 << 60

// What of a qcow2 header the tests write and read, as QEMU's docs/interop/qcow2.txt has it.
const (
	featureDirty       = 1 << 0
	featureCorrupt     = 1 << 1
	featureDataFile    = 1 << 2
	featureCompression = 1 << 3
	featureExtendedL2  = 1 << 4

	extensionDataFile = 0x44415441
	extensionCrypto   = 0x0537be77
)

func be32(b []byte, at int) uint32 { return binary.BigEndian.Uint32(b[at:]) }
func be64(b []byte, at int) uint64 { return binary.BigEndian.Uint64(b[at:]) }

// qemuImg runs qemu-img, which the packages of the tests bring.
func qemuImg(t *testing.T, args ...string) []byte {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "qemu-img", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("qemu-img %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

func judgeFile(t *testing.T, path string) (facts, error) {
	t.Helper()
	f := must(os.Open(path))(t)
	t.Cleanup(func() { must0(t, f.Close()) })
	size := must(f.Stat())(t).Size()
	head := must(io.ReadAll(io.LimitReader(f, headSize)))(t)
	if _, early := judge(head, -1, "", noLimit); early != nil {
		_, late := judge(head, size, "", noLimit)
		if late == nil {
			t.Errorf("%s is refused by its beginning (%v) but not as a whole", path, early)
		}
		return facts{}, early
	}
	return judge(head, size, "", noLimit)
}

func TestWhatQEMUMakesIsAcceptedWithTheSizeItHas(t *testing.T) {
	dir := t.TempDir()
	for i, args := range [][]string{
		{"1M"}, {"10G"}, {"1T"}, {"512"},
		{"-o", "compat=0.10", "3G"},
		{"-o", "cluster_size=512", "1G"},
		{"-o", "cluster_size=2M", "1G"},
		{"-o", "cluster_size=2M,extended_l2=on", "1G"},
		{"-o", "extended_l2=on", "1G"},
		{"-o", "lazy_refcounts=on", "1G"},
		{"-o", "refcount_bits=1", "1G"},
		{"-o", "refcount_bits=64", "1G"},
		{"-o", "compression_type=zstd", "1G"},
		{"-o", "preallocation=metadata", "1G"},
	} {
		path := filepath.Join(dir, "disk"+string(rune('a'+i)))
		qemuImg(t, slices.Concat([]string{"create", "-q", "-f", "qcow2"}, args[:len(args)-1], []string{path, args[len(args)-1]})...)
		var info struct {
			Virtual int64 `json:"virtual-size"`
		}
		must0(t, json.Unmarshal(qemuImg(t, "info", "--output=json", path), &info))
		got, err := judgeFile(t, path)
		if err != nil || got != (facts{vm.FormatQCOW2, info.Virtual}) {
			t.Errorf("%v: got %+v (%v), want %d bytes", args, got, err, info.Virtual)
		}
	}
}

func TestADiskWithContentSnapshotsAndBitmapsIsAccepted(t *testing.T) {
	dir := t.TempDir()
	raw, path := filepath.Join(dir, "raw"), filepath.Join(dir, "disk")
	must0(t, os.WriteFile(raw, rawDisk(1, 3*mib), 0o600))
	qemuImg(t, "convert", "-q", "-c", "-O", "qcow2", raw, path)
	qemuImg(t, "snapshot", "-c", "one", path)
	qemuImg(t, "bitmap", "--add", path, "map")
	if got, err := judgeFile(t, path); err != nil || got.virtual != 3*mib {
		t.Errorf("got %+v (%v)", got, err)
	}
}

func TestWhatLeadsToOtherFilesIsRefused(t *testing.T) {
	dir := t.TempDir()
	base, data := filepath.Join(dir, "base"), filepath.Join(dir, "data")
	qemuImg(t, "create", "-q", "-f", "qcow2", base, "1G")
	for name, args := range map[string][]string{
		"backing file":    {"create", "-q", "-f", "qcow2", "-b", base, "-F", "qcow2", filepath.Join(dir, "overlay")},
		"in another file": {"create", "-q", "-f", "qcow2", "-o", "data_file=" + data, filepath.Join(dir, "external"), "1G"},
		"data in another": {"create", "-q", "-f", "qcow2", "-o", "data_file_raw=on,data_file=" + data + "2", filepath.Join(dir, "external-raw"), "1G"},
		"the qcow2 file is encrypted": {
			"create", "-q", "-f", "qcow2", "--object", "secret,id=s,data=x",
			"-o", "encrypt.format=aes,encrypt.key-secret=s", filepath.Join(dir, "encrypted"), "1G",
		},
	} {
		qemuImg(t, args...)
		path := args[len(args)-1]
		if strings.HasSuffix(path, "1G") {
			path = args[len(args)-2]
		}
		if _, err := judgeFile(t, path); !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// patch is what a forger changes in a good header.
type patch struct {
	at    int
	value uint64
	width int
}

func patched(disk []byte, patches ...patch) []byte {
	disk = slices.Clone(disk)
	for _, p := range patches {
		switch p.width {
		case 1:
			disk[p.at] = byte(p.value)
		case 4:
			binary.BigEndian.PutUint32(disk[p.at:], uint32(p.value))
		default:
			binary.BigEndian.PutUint64(disk[p.at:], p.value)
		}
	}
	return disk
}

func TestForgedQCOW2HeadersAreRefused(t *testing.T) {
	good := qcow2Disk(1, 1<<30, 0)
	if _, err := judge(good[:headSize], int64(len(good)), "", noLimit); err != nil {
		t.Fatalf("the header that all others are made of: %v", err)
	}
	for name, tc := range map[string]struct {
		patches []patch
		want    string
	}{
		"version 1":                   {[]patch{{4, 1, 4}}, "version 1"},
		"version 4":                   {[]patch{{4, 4, 4}}, "version 4"},
		"a backing file":              {[]patch{{8, 4096, 8}}, "backing file"},
		"a backing file of a name":    {[]patch{{16, 10, 4}}, "backing file"},
		"clusters of 256":             {[]patch{{20, 8, 4}}, "cluster size 2^8"},
		"clusters of 4 MiB":           {[]patch{{20, 22, 4}}, "cluster size 2^22"},
		"clusters of 2^64":            {[]patch{{20, 64, 4}}, "cluster size"},
		"size zero":                   {[]patch{{24, 0, 8}}, "virtual size of 0"},
		"size of no whole sector":     {[]patch{{24, 1<<30 + 1, 8}}, "virtual size"},
		"size beyond its tables":      {[]patch{{24, 1 << 40, 8}}, "2 entries"},
		"size beyond int64":           {[]patch{{24, 1<<63 + 512, 8}}, "virtual size"},
		"AES":                         {[]patch{{32, 1, 4}}, "encrypted"},
		"tables of 32 GiB":            {[]patch{{36, 1<<32 - 1, 4}}, "4294967295 entries"},
		"tables of 33 MiB":            {[]patch{{36, 33 << 17, 4}}, "entries"},
		"no table":                    {[]patch{{36, 0, 4}}, "0 entries"},
		"a table beyond the end":      {[]patch{{40, 1 << 40, 8}}, "lies outside"},
		"a table over the end":        {[]patch{{40, 4<<16 - 8, 8}}, "lies outside"},
		"a table beyond 2^64":         {[]patch{{40, 1<<64 - 1<<16, 8}}, "lies outside"},
		"a table in the header":       {[]patch{{40, 0, 8}}, "lies outside"},
		"a table out of step":         {[]patch{{40, 3<<16 + 8, 8}}, "not aligned"},
		"refcounts beyond the end":    {[]patch{{48, 1 << 40, 8}}, "lies outside"},
		"refcounts out of step":       {[]patch{{48, 1<<16 + 512, 8}}, "not aligned"},
		"no refcounts":                {[]patch{{56, 0, 4}}, "refcount table of 0"},
		"refcounts of 16 MiB":         {[]patch{{56, 256, 4}}, "refcount table of 256"},
		"many snapshots":              {[]patch{{60, 65537, 4}}, "65537 qcow2 snapshots"},
		"snapshots beyond the end":    {[]patch{{60, 1, 4}, {64, 1 << 40, 8}}, "lies outside"},
		"dirty":                       {[]patch{{72, featureDirty, 8}}, "not closed properly"},
		"corrupt":                     {[]patch{{72, featureCorrupt, 8}}, "marked as corrupt"},
		"an external data file":       {[]patch{{72, featureDataFile, 8}}, "in another file"},
		"an unknown feature":          {[]patch{{72, 1 << 5, 8}}, "unknown features (bits 0x20)"},
		"the last unknown feature":    {[]patch{{72, 1 << 63, 8}}, "unknown features"},
		"compression of no type":      {[]patch{{72, featureCompression, 8}}, "compression type 0"},
		"an unknown compression":      {[]patch{{72, featureCompression, 8}, {104, 2, 1}}, "compression type 2"},
		"compression unannounced":     {[]patch{{104, 1, 1}}, "compression type 1"},
		"small clusters divided":      {[]patch{{72, featureExtendedL2, 8}, {20, 12, 4}, {36, 4096, 4}, {40, 4096, 8}, {48, 4096, 8}}, "with subclusters"},
		"refcounts of 128 bits":       {[]patch{{96, 7, 4}}, "refcount order 7"},
		"a short header":              {[]patch{{100, 100, 4}}, "header length 100"},
		"a long header":               {[]patch{{100, 1 << 31, 4}}, "header length"},
		"an extension that is longer": {[]patch{{112, 1, 4}, {116, 1 << 20, 4}}, "longer than what holds it"},
		"an extension of 4 GiB":       {[]patch{{112, 1, 4}, {116, 1<<32 - 1, 4}}, "longer than what holds it"},
		"an extension naming a file":  {[]patch{{112, extensionDataFile, 4}, {116, 5, 4}}, "names another file"},
		"an extension behind another": {[]patch{{112, 1, 4}, {116, 5, 4}, {128, extensionDataFile, 4}, {132, 5, 4}}, "names another file"},
		"an extension with a key":     {[]patch{{112, extensionCrypto, 4}, {116, 16, 4}}, "encrypted"},
	} {
		disk := patched(good, tc.patches...)
		_, err := judge(disk[:headSize], int64(len(disk)), "", noLimit)
		if !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: got %v, want %q", name, err, tc.want)
		}
	}
	for _, n := range []int{4, 5, 71, 72, 103, 111} {
		if _, err := judge(good[:n], int64(n), "", noLimit); !errdefs.IsFailedPrecondition(err) {
			t.Errorf("cut after %d bytes: got %v", n, err)
		}
	}
	if _, err := judge(good[:headSize], 2<<16, "", noLimit); err == nil || !strings.Contains(err.Error(), "may have been cut") {
		t.Errorf("cut before its tables: got %v", err)
	}
}

func TestOtherFormatsAreRefusedByName(t *testing.T) {
	dir := t.TempDir()
	for format, want := range map[string]string{
		"vmdk": "a vmdk image", "vhdx": "a vhdx image", "vdi": "a vdi image", "parallels": "a parallels image", "vpc": "a vpc image", "qed": "a QED image",
	} {
		path := filepath.Join(dir, format)
		qemuImg(t, "create", "-q", "-f", format, path, "64M")
		if _, err := judgeFile(t, path); !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v", format, err)
		}
	}
	disk := rawDisk(1, mib)
	for want, head := range map[string][]byte{
		"gzip": gzipOf(t, disk), "zstd": zstdOf(t, disk), "a tar archive": tarball(t, "disk/x", string(disk)),
		"xz": append([]byte("\xfd7zXZ\x00"), disk...), "bzip2": append([]byte("BZh9"), disk...),
		"a zip archive": append([]byte("PK\x03\x04"), disk...), "an ELF file": append([]byte("\x7fELF"), disk...),
		"a text file": []byte("#!/bin/sh\necho grüße\n" + strings.Repeat("é", 1000)),
	} {
		head = append(head, make([]byte, sector-len(head)%sector)...)
		if want == "a text file" {
			head = bytes.TrimRight(head, "\x00")
		}
		if _, err := judge(head[:min(len(head), headSize)], int64(len(head)), "", noLimit); !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v", want, err)
		}
	}
	empty, err := judge(nil, 0, "", noLimit)
	if !errdefs.IsFailedPrecondition(err) {
		t.Errorf("nothing: got %+v (%v)", empty, err)
	}
}

func TestRawDisksAreAccepted(t *testing.T) {
	for name, disk := range map[string][]byte{
		"with a boot sector": rawDisk(1, mib), "of zeros": make([]byte, mib), "of one sector": rawDisk(2, sector),
		"of text with one zero": append([]byte(strings.Repeat("a", sector-1)), 0),
	} {
		got, err := judge(disk[:min(len(disk), headSize)], int64(len(disk)), "", noLimit)
		if err != nil || got != (facts{vm.FormatRaw, int64(len(disk))}) {
			t.Errorf("%s: got %+v (%v)", name, got, err)
		}
	}
}

// FuzzQCOW2Header looks for headers that crash the check, and for ones that pass it with
// what must never pass.
func FuzzQCOW2Header(f *testing.F) {
	good := qcow2Disk(1, 1<<30, 0)[:4096]
	f.Add(good, int64(4<<16))
	f.Add(good[:72], int64(72))
	f.Add(patched(good, patch{4, 2, 4}), int64(4<<16))
	f.Add(patched(good, patch{112, 1, 4}, patch{116, 8, 4}), int64(-1))
	f.Add(patched(good, patch{20, 9, 4}), int64(1<<20))
	f.Fuzz(func(t *testing.T, head []byte, size int64) {
		if len(head) > headSize {
			head = head[:headSize]
		}
		if len(head) >= len(qcow2head.Magic) {
			copy(head, qcow2head.Magic)
		}
		got, err := judge(head, size, "", 1<<40)
		if err != nil {
			if !errdefs.IsFailedPrecondition(err) {
				t.Errorf("an error without its class: %v", err)
			}
			return
		}
		if got.format == vm.FormatRaw {
			return
		}
		if got.virtual <= 0 || got.virtual > 1<<40 || got.virtual%sector != 0 {
			t.Errorf("a virtual size of %d passed", got.virtual)
		}
		if be64(head, 8) != 0 || be32(head, 32) != 0 {
			t.Error("a backing file or encryption passed")
		}
		if be32(head, 4) == 3 && be64(head, 72)&^(featureCompression|featureExtendedL2) != 0 {
			t.Errorf("features %#x passed", be64(head, 72))
		}
		if size >= 0 && be64(head, 40)+8 > uint64(size) {
			t.Errorf("a table at %d in %d bytes passed", be64(head, 40), size)
		}
	})
}
