// SPDX-License-Identifier: Apache-2.0

package image

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/vm"
)

// twoImages is a store with the images "one:latest", a qcow2, and "two:latest", raw.
func twoImages(t *testing.T) (s *Store, one, two vm.Image) {
	t.Helper()
	s = openStore(t)
	return s, importOK(t, s, "one", qcow2Disk(1, mib, 0)), importOK(t, s, "two", rawDisk(2, mib))
}

func TestAStoreIsFoundAsItWasLeft(t *testing.T) {
	reg, s := newRegistry(t), openStore(t)
	ref := reg.push("vms/test:v1", artifact(t, rawType, rawDisk(1, mib)))
	pullOK(t, s, ref)
	importOK(t, s, "two", qcow2Disk(2, mib, 0))
	before := must(s.List(t.Context()))(t)
	s.Close()

	again, found, err := Open(t.Context(), s.cfg)
	must0(t, err)
	defer again.Close()
	if len(found) != 0 {
		t.Errorf("found %v", found)
	}
	after := must(again.List(t.Context()))(t)
	if len(after) != 2 {
		t.Fatalf("%d images, want 2", len(after))
	}
	for i := range after {
		b, a := before[i], after[i]
		if !a.PulledAt.Equal(b.PulledAt) {
			t.Errorf("pulled at %v, was %v", a.PulledAt, b.PulledAt)
		}
		a.PulledAt = b.PulledAt
		if a.ID != b.ID || !slices.Equal(a.Tags, b.Tags) || !slices.Equal(a.Digests, b.Digests) || a.Size != b.Size || a.VirtualSize != b.VirtualSize || a.Format != b.Format || a.Path != b.Path {
			t.Errorf("%+v, was %+v", a, b)
		}
	}
	reg.misbehave(nil)
	pullOK(t, again, ref)
	if reg.count("GET blobs") != 0 {
		t.Errorf("what it is made of was forgotten: %v", reg.all())
	}
}

func TestWhatACrashLeavesIsCleanedUpAndTold(t *testing.T) {
	for name, tc := range map[string]struct {
		leave func(l layout, one vm.Image) error
		told  string
		files string
		one   bool // is still there
	}{
		"a part": {
			func(l layout, _ vm.Image) error {
				return os.WriteFile(filepath.Join(l.parts(), "12345"), []byte("x"), 0o600)
			},
			"removed 12345, the rest of a pull", "blobs 2, records 2, parts 0", true,
		},
		"a disk without a record": {
			func(l layout, one vm.Image) error { return os.Remove(l.record(one.ID)) },
			"which no image has", "blobs 1, records 1, parts 0", false,
		},
		"a record without a disk": {
			func(_ layout, one vm.Image) error { return os.Remove(one.Path) },
			"dropped image", "blobs 1, records 1, parts 0", false,
		},
		"the rest of a record that was being written": {
			func(l layout, one vm.Image) error {
				return os.WriteFile(l.record(one.ID)+"817263", []byte("{"), 0o600)
			},
			"which is no record", "blobs 2, records 2, parts 0", true,
		},
		"a record cut short": {
			func(l layout, one vm.Image) error { return os.Truncate(l.record(one.ID), 30) },
			"it is no JSON", "blobs 1, records 1, parts 0", false,
		},
		"a record of another image": {
			func(l layout, one vm.Image) error {
				b, err := os.ReadFile(l.record(one.ID))
				return errors.Join(err, os.WriteFile(l.record(one.ID), bytes.ReplaceAll(b, []byte(one.ID), []byte(someDigest)), 0o600))
			},
			"what it says cannot be", "blobs 1, records 1, parts 0", false,
		},
		"a disk cut short": {
			func(_ layout, one vm.Image) error {
				return errors.Join(os.Chmod(one.Path, 0o600), os.Truncate(one.Path, 512))
			},
			"its disk has 512 bytes", "blobs 1, records 1, parts 0", false,
		},
		"a disk that was written to": {
			func(_ layout, one vm.Image) error {
				if err := os.Chmod(one.Path, 0o600); err != nil {
					return err
				}
				f, err := os.OpenFile(one.Path, os.O_WRONLY, 0)
				if err != nil {
					return err
				}
				_, err = f.WriteAt([]byte("x"), 200000)
				return errors.Join(err, f.Close())
			},
			"its disk has been changed", "blobs 1, records 1, parts 0", false,
		},
		"a disk that is a symlink": {
			func(_ layout, one vm.Image) error {
				return errors.Join(os.Rename(one.Path, one.Path+"x"), os.Symlink(one.Path+"x", one.Path))
			},
			"dropped image", "blobs 1, records 1, parts 0", false,
		},
		"a disk with another time": {
			func(_ layout, one vm.Image) error {
				return os.Chtimes(one.Path, time.Time{}, time.Unix(1, 0))
			},
			"is still the same", "blobs 2, records 2, parts 0", true,
		},
		"a disk that others may write to": {
			func(_ layout, one vm.Image) error { return os.Chmod(one.Path, 0o666) },
			"had the mode", "blobs 2, records 2, parts 0", true,
		},
		"a stranger among the disks": {
			func(l layout, _ vm.Image) error {
				return os.WriteFile(filepath.Join(l.blobs(), "notes"), []byte("x"), 0o600)
			},
			"which no image has", "blobs 2, records 2, parts 0", true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, one, _ := twoImages(t)
			s.Close()
			must0(t, tc.leave(s.layout, one))
			again, found, err := Open(t.Context(), s.cfg)
			must0(t, err)
			defer again.Close()
			if told := strings.Join(found, "\n"); !strings.Contains(told, tc.told) {
				t.Errorf("told %q, want %q", told, tc.told)
			}
			wantFiles(t, again, tc.files)
			if _, err := again.Resolve(t.Context(), "two"); err != nil {
				t.Errorf("the other image: %v", err)
			}
			got, err := again.Resolve(t.Context(), "one")
			if tc.one != (err == nil) {
				t.Errorf("the image: %v", err)
			}
			if err == nil && must(os.Stat(got.Path))(t).Mode() != 0o444 {
				t.Errorf("mode %v", must(os.Stat(got.Path))(t).Mode())
			}
			// Whatever it was, the second time there is nothing to say.
			last, found, err := Open(t.Context(), s.cfg)
			must0(t, err)
			defer last.Close()
			if len(found) != 0 {
				t.Errorf("told again: %v", found)
			}
		})
	}
}

func TestATagInTwoRecordsIsTheLaterOnes(t *testing.T) {
	s, one, two := twoImages(t)
	s.Close()
	// As a crash between the two writes of a move leaves it.
	rec := must(s.layout.read(two.ID))(t)
	must0(t, s.layout.write(rec.with(origin{name: reference{repo: "docker.io/library/one", tag: "latest"}}, time.Now())))

	again, found, err := Open(t.Context(), s.cfg)
	must0(t, err)
	defer again.Close()
	if got := must(again.Resolve(t.Context(), "one"))(t); got.ID != two.ID {
		t.Error("the tag is the earlier one's")
	}
	if len(found) != 1 || !strings.Contains(found[0], one.ID) {
		t.Errorf("found %v", found)
	}
	must0(t, again.Remove(t.Context(), two.ID))
	last := reopen(t, s.cfg)
	if _, err := last.Resolve(t.Context(), "one"); !errdefs.IsNotFound(err) {
		t.Errorf("the tag came back: %v", err)
	}
}

func TestAStoreOfALaterVersionIsLeftAlone(t *testing.T) {
	s, one, _ := twoImages(t)
	s.Close()
	b := must(os.ReadFile(s.layout.record(one.ID)))(t)
	must0(t, os.WriteFile(s.layout.record(one.ID), bytes.Replace(b, []byte(`"version": 1`), []byte(`"version": 2`), 1), 0o600))
	_, _, err := Open(t.Context(), s.cfg)
	if !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), "version 2") {
		t.Errorf("got %v, want FailedPrecondition", err)
	}
	wantFiles(t, s, "blobs 2, records 2, parts 0")
}

// TestRecordsOfVersion1AreRead holds the format: a change of it needs a new version and
// the old one read for ever.
func TestRecordsOfVersion1AreRead(t *testing.T) {
	s := openStore(t)
	disk := rawDisk(1, mib)
	img := importOK(t, s, "x", disk)
	s.Close()
	hexDigest := strings.TrimPrefix(img.ID, idPrefix)
	const text = `{"version":1,"id":"sha256:HEX","format":"raw","bytes":1048576,"modTime":"2001-02-03T04:05:06.000000007Z",
	"virtualSize":1048576,"pulledAt":"2001-02-03T04:05:07Z","tags":{"quay.io/x/y:z":"2001-02-03T04:05:07Z"},
	"digests":["quay.io/x/y@sha256:HEX"],"manifests":["sha256:HEX"],"contents":["raw  sha256:HEX"]}`
	must0(t, os.WriteFile(s.layout.record(img.ID), []byte(strings.ReplaceAll(text, "HEX", hexDigest)), 0o600))
	must0(t, os.Chtimes(img.Path, time.Time{}, time.Date(2001, 2, 3, 4, 5, 6, 7, time.UTC)))
	again, found, err := Open(t.Context(), s.cfg)
	must0(t, err)
	defer again.Close()
	got := must(again.Resolve(t.Context(), "quay.io/x/y:z"))(t)
	if got.ID != img.ID || got.PulledAt.Year() != 2001 || len(got.Digests) != 1 || len(found) != 0 {
		t.Errorf("got %+v, found %v", got, found)
	}
}

func TestFoldersAreClosedToAllButQEMUsWayToADisk(t *testing.T) {
	s := openStore(t)
	for path, want := range map[string]os.FileMode{
		s.cfg.Dir: 0o711, s.layout.blobRoot(): 0o711, s.layout.blobs(): 0o711, s.layout.records(): 0o700, s.layout.parts(): 0o700,
	} {
		if got := must(os.Stat(path))(t).Mode().Perm(); got != want {
			t.Errorf("%s has mode %v, want %v", path, got, want)
		}
	}
}

func TestARemovalThatFailsCanBeTriedAgain(t *testing.T) {
	s, one, _ := twoImages(t)
	// A folder that is not empty cannot be in a file's place for long, but a rename onto
	// it fails; what fails here is the removal of the record.
	record := s.layout.record(one.ID)
	must0(t, os.Rename(record, record+"x"))
	must0(t, os.MkdirAll(filepath.Join(record, "in the way"), 0o700))
	if err := s.Remove(t.Context(), "one"); err == nil {
		t.Fatal("removed")
	}
	if _, err := s.Resolve(t.Context(), one.ID); err != nil {
		t.Errorf("it was forgotten: %v", err)
	}
	must0(t, os.RemoveAll(record))
	must0(t, s.Remove(t.Context(), "one"))
	if _, err := os.Stat(one.Path); !os.IsNotExist(err) {
		t.Errorf("its disk: %v", err)
	}
}

func TestAPullThatCannotBeRecordedLeavesNoDisk(t *testing.T) {
	s := openStore(t)
	must0(t, os.RemoveAll(s.layout.records()))
	must0(t, os.WriteFile(s.layout.records(), nil, 0o600))
	if _, err := s.Import(t.Context(), "x", bytes.NewReader(rawDisk(1, mib)), nil); err == nil {
		t.Fatal("imported")
	}
	if n := len(must(os.ReadDir(s.layout.blobs()))(t)) + len(must(os.ReadDir(s.layout.parts()))(t)); n != 0 {
		t.Errorf("%d files are left", n)
	}
	if got := must(s.List(t.Context()))(t); len(got) != 0 {
		t.Errorf("listed: %v", got)
	}
}

func TestIDPrefixes(t *testing.T) {
	s, one, _ := twoImages(t)
	hexDigest := strings.TrimPrefix(one.ID, idPrefix)
	for _, ref := range []string{one.ID, one.ID[:12], hexDigest, hexDigest[:12]} {
		if got, err := s.Resolve(t.Context(), ref); err != nil || got.ID != one.ID {
			t.Errorf("%s: %v", ref, err)
		}
	}
	for ref, class := range map[string]func(error) bool{
		hexDigest[:11]:                      errdefs.IsNotFound, // a name
		"sha256:":                           errdefs.IsInvalidArgument,
		"sha256:" + strings.Repeat("0", 64): errdefs.IsNotFound,
		"sha256:" + strings.Repeat("0", 65): errdefs.IsNotFound, // a name and tag
		"X":                                 errdefs.IsInvalidArgument,
	} {
		if _, err := s.Resolve(t.Context(), ref); !class(err) {
			t.Errorf("%s: got %v", ref, err)
		}
	}
	c, _ := newCatalog([]record{{ID: idPrefix + "abcd1"}, {ID: idPrefix + "abcd2"}})
	if _, err := c.find("sha256:abcd", nil); !errdefs.IsInvalidArgument(err) {
		t.Errorf("a prefix of two: got %v, want InvalidArgument", err)
	}
}
