// SPDX-License-Identifier: Apache-2.0

package image

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-containerregistry/pkg/name"
	oci "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/vmlet/vmlet/pkg/qcow2head"
	"github.com/vmlet/vmlet/pkg/vm"
)

const mib = 1 << 20

// foreignArch is an architecture that this node is not.
var foreignArch = map[bool]string{true: "amd64", false: "s390x"}[runtime.GOARCH != "amd64"]

func pullOK(t *testing.T, s *Store, ref string) vm.Image {
	t.Helper()
	img, err := s.Pull(t.Context(), ref, vm.RegistryAuth{}, nil)
	must0(t, err)
	return img
}

// wantDisk checks all that an image says of a disk, and the file itself.
func wantDisk(t *testing.T, img vm.Image, disk []byte, format vm.DiskFormat, virtual int64) {
	t.Helper()
	sum := sha256.Sum256(disk)
	if want := "sha256:" + hex.EncodeToString(sum[:]); img.ID != want {
		t.Errorf("ID %s, want %s", img.ID, want)
	}
	if img.Format != format || img.VirtualSize != virtual {
		t.Errorf("format %s of %d bytes, want %s of %d", img.Format, img.VirtualSize, format, virtual)
	}
	if got := must(os.ReadFile(img.Path))(t); !bytes.Equal(got, disk) {
		t.Errorf("the stored file of %d bytes is not the disk of %d", len(got), len(disk))
	}
	if mode := must(os.Stat(img.Path))(t).Mode(); mode != 0o444 {
		t.Errorf("mode %v, want 0444", mode)
	}
}

func TestPullStoresTheDiskOfEveryKindOfImage(t *testing.T) {
	qcow, raw := qcow2Disk(1, 64*mib, 3*mib), rawDisk(2, 3*mib)
	rawZeros := append(rawDisk(3, mib), make([]byte, 5*mib)...)
	inTar := func(disk []byte) []byte {
		return tarball(t, "etc/", "", "etc/hosts", "localhost", "disk/", "", "disk/disk.img", string(disk))
	}
	for _, tc := range []struct {
		name  string
		image oci.Image
		disk  []byte
	}{
		{"a qcow2 layer", artifact(t, "application/vnd.vmlet.disk.qcow2.v1", qcow), qcow},
		{"a qcow2 layer with gzip", artifact(t, "application/vnd.vmlet.disk.qcow2.v1+gzip", gzipOf(t, qcow)), qcow},
		{"a qcow2 layer with zstd", artifact(t, "application/vnd.vmlet.disk.qcow2.v1+zstd", zstdOf(t, qcow)), qcow},
		{"a raw layer", artifact(t, "application/vnd.vmlet.disk.raw.v1", raw), raw},
		{"a raw layer with gzip", artifact(t, "application/vnd.vmlet.disk.raw.v1+gzip", gzipOf(t, raw)), raw},
		{"a raw layer with zstd that ends in zeros", artifact(t, "application/vnd.vmlet.disk.raw.v1+zstd", zstdOf(t, rawZeros)), rawZeros},
		{"a containerDisk", containerDisk(t, runtime.GOARCH, gzipOf(t, inTar(qcow))), qcow},
		{"a containerDisk with zstd", containerDisk(t, runtime.GOARCH, zstdOf(t, inTar(raw))), raw},
		{"a containerDisk without compression", containerDisk(t, runtime.GOARCH, inTar(rawZeros)), rawZeros},
		{"a containerDisk under other files", containerDisk(t, runtime.GOARCH, inTar(qcow), tarball(t, "readme", "hello")), qcow},
		{"a containerDisk that replaces one of a lower layer", containerDisk(t, runtime.GOARCH, inTar(raw), inTar(qcow)), qcow},
		{"a containerDisk whose other file was deleted", containerDisk(t, runtime.GOARCH,
			tarball(t, "disk/old.img", string(raw)), tarball(t, "disk/.wh.old.img", "", "disk/new.img", string(qcow))), qcow},
		{"a containerDisk whose folder was made anew", containerDisk(t, runtime.GOARCH,
			tarball(t, "disk/old.img", string(raw)), tarball(t, "disk/.wh..wh..opq", "", "disk/new.img", string(qcow))), qcow},
	} {
		t.Run(tc.name, func(t *testing.T) {
			reg, s := newRegistry(t), openStore(t)
			ref := reg.push("vms/test:v1", tc.image)
			img := pullOK(t, s, ref)

			format, virtual := vm.FormatRaw, int64(len(tc.disk))
			if bytes.HasPrefix(tc.disk, []byte(qcow2head.Magic)) {
				format, virtual = vm.FormatQCOW2, 64*mib
			}
			wantDisk(t, img, tc.disk, format, virtual)
			if want := []string{ref}; !slices.Equal(img.Tags, want) {
				t.Errorf("tags %v, want %v", img.Tags, want)
			}
			if want := []string{reg.host + "/vms/test@" + digestOf(t, tc.image)}; !slices.Equal(img.Digests, want) {
				t.Errorf("digests %v, want %v", img.Digests, want)
			}
			wantFiles(t, s, "blobs 1, records 1, parts 0")
		})
	}
}

func TestPullRefusesWhatIsNoUsableDisk(t *testing.T) {
	qcow, raw := qcow2Disk(1, 64*mib, 0), rawDisk(2, mib)
	backed := slices.Clone(qcow)
	backed[15], backed[19] = 200, 9
	dataFile := slices.Clone(qcow)
	dataFile[79] |= featureDataFile
	big := qcow2Disk(1, 1<<40, 0)
	for _, tc := range []struct {
		name  string
		image oci.Image
		class func(error) bool
		text  string
	}{
		{"a qcow2 with a backing file", artifact(t, "application/vnd.vmlet.disk.qcow2.v1", backed), errdefs.IsFailedPrecondition, "backing file"},
		{"a qcow2 with a data file", artifact(t, "application/vnd.vmlet.disk.qcow2.v1", dataFile), errdefs.IsFailedPrecondition, "another file"},
		{"a qcow2 with a backing file in a containerDisk", containerDisk(t, runtime.GOARCH, tarball(t, "disk/x", string(backed))), errdefs.IsFailedPrecondition, "backing file"},
		{"a qcow2 that calls itself raw", artifact(t, "application/vnd.vmlet.disk.raw.v1", qcow), errdefs.IsFailedPrecondition, "labelled raw and is qcow2"},
		{"a raw disk that calls itself qcow2", artifact(t, "application/vnd.vmlet.disk.qcow2.v1", raw), errdefs.IsFailedPrecondition, "labelled qcow2 and is raw"},
		{"a text file", containerDisk(t, runtime.GOARCH, tarball(t, "disk/readme", "this is no disk\n")), errdefs.IsFailedPrecondition, "a text file"},
		{"a vmdk", containerDisk(t, runtime.GOARCH, tarball(t, "disk/x.vmdk", "KDMV"+string(raw))), errdefs.IsFailedPrecondition, "a vmdk image"},
		{"a raw disk of a size that no disk has", artifact(t, "application/vnd.vmlet.disk.raw.v1", raw[:mib-1]), errdefs.IsFailedPrecondition, "multiple of 512"},
		{"a virtual size beyond the limit", artifact(t, "application/vnd.vmlet.disk.qcow2.v1", big), errdefs.IsFailedPrecondition, "1099511627776 bytes, 67108864 are allowed"},
		{"a small layer that unpacks to more than the limit", artifact(t, "application/vnd.vmlet.disk.raw.v1+zstd", zstdOf(t, make([]byte, 64*mib+512))), errdefs.IsFailedPrecondition, "more than 67108864 bytes"},
		{"gzip that is none", artifact(t, "application/vnd.vmlet.disk.raw.v1+gzip", raw), errdefs.IsFailedPrecondition, "labelled as gzip"},
		{"gzip that is cut", artifact(t, "application/vnd.vmlet.disk.raw.v1+gzip", gzipOf(t, raw)[:mib/2]), errdefs.IsFailedPrecondition, "labelled as gzip"},
		{"zstd that is none", artifact(t, "application/vnd.vmlet.disk.raw.v1+zstd", raw), errdefs.IsFailedPrecondition, "labelled as zstd"},
		{"a tar archive that is none", containerDisk(t, runtime.GOARCH, raw), errdefs.IsFailedPrecondition, "labelled as tar"},
		{"two disks", containerDisk(t, runtime.GOARCH, tarball(t, "disk/a", string(raw), "disk/b", string(qcow))), errdefs.IsFailedPrecondition, "several files (a, b)"},
		{"two disks in two layers", containerDisk(t, runtime.GOARCH, tarball(t, "disk/a", string(raw)), tarball(t, "disk/b", string(qcow))), errdefs.IsFailedPrecondition, "several files (b, a)"},
		{"a symlink for a disk", containerDisk(t, runtime.GOARCH, tarball(t, "disk/a", "->/etc/shadow")), errdefs.IsFailedPrecondition, "/disk/a is not a file"},
		{"a symlink for the folder", containerDisk(t, runtime.GOARCH, tarball(t, "disk", "->/etc")), errdefs.IsFailedPrecondition, "/disk is not a folder"},
		{"a container image", containerDisk(t, runtime.GOARCH, tarball(t, "bin/sh", "x")), errdefs.IsFailedPrecondition, "no file in /disk"},
		{"an unknown layer", artifact(t, "application/vnd.example.thing", raw), errdefs.IsFailedPrecondition, "application/vnd.example.thing"},
		{"an unknown disk format", artifact(t, "application/vnd.vmlet.disk.vmdk.v1", raw), errdefs.IsFailedPrecondition, "application/vnd.vmlet.disk.vmdk.v1"},
		{"another architecture", containerDisk(t, foreignArch, tarball(t, "disk/x", string(qcow))), errdefs.IsFailedPrecondition, "is for " + foreignArch + ", this node is " + runtime.GOARCH},
	} {
		t.Run(tc.name, func(t *testing.T) {
			reg, s := newRegistry(t), openStore(t, func(c *Config) { c.MaxDiskSize = 64 * mib })
			_, err := s.Pull(t.Context(), reg.push("vms/test:v1", tc.image), vm.RegistryAuth{}, nil)
			if !tc.class(err) || !strings.Contains(err.Error(), tc.text) {
				t.Errorf("got %v, want something with %q", err, tc.text)
			}
			wantFiles(t, s, "blobs 0, records 0, parts 0")
		})
	}
}

func TestPullTakesOurArchitectureFromAnIndex(t *testing.T) {
	reg, s := newRegistry(t), openStore(t)
	disk := qcow2Disk(1, mib, 0)
	ours := containerDisk(t, runtime.GOARCH, tarball(t, "disk/x", string(disk)))
	theirs := containerDisk(t, foreignArch, tarball(t, "disk/x", string(qcow2Disk(2, mib, 0))))
	add := func(img oci.Image, system, arch string) mutate.IndexAddendum {
		return mutate.IndexAddendum{Add: img, Descriptor: oci.Descriptor{Platform: &oci.Platform{OS: system, Architecture: arch}}}
	}
	index := mutate.AppendManifests(empty.Index, add(theirs, "linux", foreignArch), add(theirs, "unknown", "unknown"), add(ours, "linux", runtime.GOARCH))
	ref := reg.host + "/vms/multi:v1"
	must0(t, remote.WriteIndex(must(name.ParseReference(ref))(t), index))

	img := pullOK(t, s, ref)
	wantDisk(t, img, disk, vm.FormatQCOW2, mib)
	if want := []string{reg.host + "/vms/multi@" + digestOf(t, index)}; !slices.Equal(img.Digests, want) {
		t.Errorf("digests %v, want that of the index, %v", img.Digests, want)
	}

	reg.misbehave(nil)
	byDigest := pullOK(t, s, reg.host+"/vms/multi@"+digestOf(t, ours))
	if byDigest.ID != img.ID || reg.count("GET blobs") != 0 {
		t.Errorf("the manifest in the index gave %s with %v", byDigest.ID, reg.all())
	}

	without := mutate.AppendManifests(empty.Index, add(theirs, "linux", foreignArch), add(theirs, "linux", "riscv64"))
	ref = reg.host + "/vms/multi:without"
	must0(t, remote.WriteIndex(must(name.ParseReference(ref))(t), without))
	_, err := s.Pull(t.Context(), ref, vm.RegistryAuth{}, nil)
	if want := "no image for linux/" + runtime.GOARCH + ", the index has linux/" + foreignArch + ", linux/riscv64"; !errdefs.IsNotFound(err) || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want NotFound with %q", err, want)
	}
}

func TestAnUnchangedTagIsNotFetchedAgain(t *testing.T) {
	reg, s := newRegistry(t), openStore(t)
	ref := reg.push("vms/test:v1", artifact(t, "application/vnd.vmlet.disk.qcow2.v1", qcow2Disk(1, mib, 0)))
	first := pullOK(t, s, ref)
	record := must(os.Stat(s.layout.record(first.ID)))(t)

	reg.misbehave(nil)
	again := pullOK(t, s, ref)
	if reg.count("GET manifests") != 0 || reg.count("GET blobs") != 0 || reg.count("HEAD manifests") != 1 {
		t.Errorf("requests %v, want no more than a HEAD", reg.all())
	}
	if again.ID != first.ID || !again.PulledAt.Equal(first.PulledAt) {
		t.Errorf("%+v is not %+v", again, first)
	}
	if now := must(os.Stat(s.layout.record(first.ID)))(t); !os.SameFile(now, record) {
		t.Error("the record was written again")
	}
}

func TestAnUnchangedTagIsFoundWithoutHEAD(t *testing.T) {
	reg, s := newRegistry(t), openStore(t)
	ref := reg.push("vms/test:v1", artifact(t, "application/vnd.vmlet.disk.qcow2.v1", qcow2Disk(1, mib, 0)))
	first := pullOK(t, s, ref)
	reg.misbehave(func(w http.ResponseWriter, req *http.Request, next http.Handler) {
		if req.Method == http.MethodHead {
			w.WriteHeader(http.StatusMethodNotAllowed)
			return
		}
		next.ServeHTTP(w, req)
	})
	if again := pullOK(t, s, ref); again.ID != first.ID || reg.count("GET blobs") != 0 {
		t.Errorf("got %s with %v", again.ID, reg.all())
	}
}

func TestATagThatMovedLeavesItsOldImageNameless(t *testing.T) {
	reg, s := newRegistry(t), openStore(t)
	ref := reg.push("vms/test:v1", artifact(t, "application/vnd.vmlet.disk.qcow2.v1", qcow2Disk(1, mib, 0)))
	old := pullOK(t, s, ref)
	reg.push("vms/test:v1", artifact(t, "application/vnd.vmlet.disk.qcow2.v1", qcow2Disk(2, mib, 0)))
	moved := pullOK(t, s, ref)
	if moved.ID == old.ID {
		t.Fatal("the new content was not pulled")
	}
	check := func(s *Store) {
		t.Helper()
		if got := must(s.Resolve(t.Context(), ref))(t); got.ID != moved.ID {
			t.Errorf("the tag is %s's, want %s", got.ID, moved.ID)
		}
		if got := must(s.Resolve(t.Context(), old.ID))(t); len(got.Tags) != 0 {
			t.Errorf("the old image still has %v", got.Tags)
		}
		if all := must(s.List(t.Context()))(t); len(all) != 2 {
			t.Errorf("%d images are listed, want 2", len(all))
		}
	}
	check(s)
	check(reopen(t, s.cfg))
	must0(t, s.Remove(t.Context(), moved.ID))
	again := reopen(t, s.cfg)
	if _, err := again.Resolve(t.Context(), ref); !errdefs.IsNotFound(err) {
		t.Errorf("the tag came back to the old image: %v", err)
	}
	must0(t, again.Remove(t.Context(), old.ID))
	wantFiles(t, again, "blobs 0, records 0, parts 0")
}

func TestEqualContentIsOneImageAndFetchedOnce(t *testing.T) {
	reg, s := newRegistry(t), openStore(t)
	disk := qcow2Disk(1, mib, mib)
	img := artifact(t, "application/vnd.vmlet.disk.qcow2.v1+gzip", gzipOf(t, disk))
	annotated, isImage := mutate.Annotations(img, map[string]string{"x": "y"}).(oci.Image)
	if !isImage {
		t.Fatal("an annotated image is no image")
	}
	refs := []string{reg.push("a/test:1", img), reg.push("a/test:2", img), reg.push("b/other:3", annotated)}
	reg.misbehave(nil)
	for _, ref := range refs {
		pullOK(t, s, ref)
	}
	if n := reg.count("GET blobs"); n != 1 {
		t.Errorf("%d blobs were fetched, want 1: %v", n, reg.all())
	}
	// The same disk, packed otherwise: only its bytes tell.
	refs = append(refs, reg.push("c/test:4", artifact(t, "application/vnd.vmlet.disk.qcow2.v1", disk)))
	got := pullOK(t, s, refs[3])
	slices.Sort(refs)
	if !slices.Equal(got.Tags, refs) || len(got.Digests) != 3 {
		t.Errorf("tags %v and %d digests, want %v and 3", got.Tags, len(got.Digests), refs)
	}
	wantFiles(t, s, "blobs 1, records 1, parts 0")
}

func TestPullsOfOneContentByManyNamesFetchItOnce(t *testing.T) {
	reg, s := newRegistry(t), openStore(t)
	img := artifact(t, "application/vnd.vmlet.disk.raw.v1", rawDisk(1, 4*mib))
	var refs []string
	for _, tag := range []string{"1", "2", "3", "4"} {
		refs = append(refs, reg.push("vms/test:"+tag, img))
	}
	reg.misbehave(nil)
	var all sync.WaitGroup
	for _, ref := range append(refs, refs...) {
		all.Go(func() { pullOK(t, s, ref) })
	}
	all.Wait()
	if n := reg.count("GET blobs"); n != 1 {
		t.Errorf("%d blobs were fetched, want 1", n)
	}
	if got := must(s.Resolve(t.Context(), refs[0]))(t); len(got.Tags) != 4 {
		t.Errorf("tags %v, want 4", got.Tags)
	}
}

func TestADiskThatWasTakenAwayIsFetchedAgain(t *testing.T) {
	reg, s := newRegistry(t), openStore(t)
	disk := qcow2Disk(1, mib, 0)
	ref := reg.push("vms/test:v1", artifact(t, "application/vnd.vmlet.disk.qcow2.v1", disk))
	first := pullOK(t, s, ref)
	for what, harm := range map[string]func() error{
		"removed": func() error { return os.Remove(first.Path) },
		"cut":     func() error { return errors.Join(os.Chmod(first.Path, 0o600), os.Truncate(first.Path, 512)) },
	} {
		must0(t, harm())
		again := pullOK(t, s, ref)
		wantDisk(t, again, disk, vm.FormatQCOW2, mib)
		if !slices.Equal(again.Tags, first.Tags) || !again.PulledAt.Equal(first.PulledAt) {
			t.Errorf("%s: %+v after %+v", what, again, first)
		}
		_, found, err := Open(t.Context(), s.cfg)
		if err != nil || len(found) != 0 {
			t.Errorf("%s: found %v (%v)", what, found, err)
		}
	}
}

func TestPullByDigest(t *testing.T) {
	reg, s := newRegistry(t), openStore(t)
	img := artifact(t, "application/vnd.vmlet.disk.qcow2.v1", qcow2Disk(1, mib, 0))
	ref := reg.push("vms/test:v1", img)
	full := reg.host + "/vms/test@" + digestOf(t, img)
	// A tag beside a digest says nothing.
	got := pullOK(t, s, reg.host+"/vms/test:v1@"+digestOf(t, img))
	if len(got.Tags) != 0 || !slices.Equal(got.Digests, []string{full}) {
		t.Errorf("tags %v, digests %v, want none and %s", got.Tags, got.Digests, full)
	}
	if _, err := s.Resolve(t.Context(), ref); !errdefs.IsNotFound(err) {
		t.Errorf("the tag was not asked for: %v", err)
	}
	for _, by := range []string{full, got.ID, got.ID[:20], strings.TrimPrefix(got.ID, idPrefix)[:13]} {
		if found := must(s.Resolve(t.Context(), by))(t); found.ID != got.ID {
			t.Errorf("%s is %s", by, found.ID)
		}
	}
	_, err := s.Pull(t.Context(), reg.host+"/vms/test@sha256:"+strings.Repeat("0", 64), vm.RegistryAuth{}, nil)
	if !errdefs.IsNotFound(err) {
		t.Errorf("got %v, want NotFound", err)
	}
}

func TestProgressGoesFromResolvingToDone(t *testing.T) {
	reg, s := newRegistry(t), openStore(t)
	disk := rawDisk(1, 3*mib)
	ref := reg.push("vms/test:v1", artifact(t, "application/vnd.vmlet.disk.raw.v1", disk))
	var told []vm.PullProgress
	must(s.Pull(t.Context(), ref, vm.RegistryAuth{}, func(p vm.PullProgress) { told = append(told, p) }))(t)
	var phases []string
	for i, p := range told {
		if i > 0 && p.Done < told[i-1].Done {
			t.Errorf("it went back: %v", told)
		}
		phases = append(phases, p.Phase)
	}
	if got := slices.Compact(phases); !slices.Equal(got, []string{"resolving", "downloading", "verifying", "done"}) {
		t.Errorf("phases %v", got)
	}
	if last := told[len(told)-1]; last.Done != int64(len(disk)) || last.Total != int64(len(disk)) {
		t.Errorf("ended with %+v", last)
	}
}

func TestAPullThatIsGivenUpLeavesNothing(t *testing.T) {
	reg, s := newRegistry(t), openStore(t)
	disk := rawDisk(1, 3*mib)
	ref := reg.push("vms/test:v1", artifact(t, "application/vnd.vmlet.disk.raw.v1", disk))
	reached, gone := make(chan struct{}), make(chan struct{})
	reg.misbehave(onBlob(func(w http.ResponseWriter, req *http.Request) {
		must2(w.Write(disk[:mib]))
		flush(w)
		close(reached)
		<-req.Context().Done()
		close(gone)
	}))
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-reached; cancel() }()
	if _, err := s.Pull(ctx, ref, vm.RegistryAuth{}, nil); !errdefs.IsCanceled(err) {
		t.Errorf("got %v, want Canceled", err)
	}
	<-gone
	s.Close()
	wantFiles(t, s, "blobs 0, records 0, parts 0")
	if _, err := s.Pull(t.Context(), ref, vm.RegistryAuth{}, nil); !errdefs.IsUnavailable(err) {
		t.Errorf("a closed store answers %v, want Unavailable", err)
	}
}

func TestManifestTypesThatAreNotImages(t *testing.T) {
	for _, tc := range []struct{ name, body, text string }{
		{"no JSON", "hello", "no JSON"},
		{"neither manifest nor index", `{"x":1}`, "not a manifest or index"},
		{"both manifest and index", `{"layers":[],"manifests":[]}`, "not a manifest or index"},
		{"no layers", `{"layers":[]}`, "no layers"},
		{"a negative size", `{"layers":[{"mediaType":"application/vnd.vmlet.disk.raw.v1","size":-1,"digest":"sha256:` + strings.Repeat("0", 64) + `"}]}`, "layer sha256"},
		{"a layer larger than all that is allowed", `{"layers":[{"mediaType":"application/vnd.vmlet.disk.raw.v1","size":9000000000000,"digest":"sha256:` + strings.Repeat("0", 64) + `"}]}`, "are allowed"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			reg, s := newRegistry(t), openStore(t)
			reg.misbehave(func(w http.ResponseWriter, req *http.Request, next http.Handler) {
				if summary(req) == "GET manifests" {
					w.Header().Set("Content-Type", string(types.OCIManifestSchema1))
					must2(w.Write([]byte(tc.body)))
					return
				}
				next.ServeHTTP(w, req)
			})
			_, err := s.Pull(t.Context(), reg.host+"/vms/test:v1", vm.RegistryAuth{}, nil)
			if !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), tc.text) {
				t.Errorf("got %v, want FailedPrecondition with %q", err, tc.text)
			}
			if reg.count("GET blobs") != 0 {
				t.Errorf("requests %v", reg.all())
			}
		})
	}
}
