// SPDX-License-Identifier: Apache-2.0

package lifecycletest

import (
	"bytes"
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/lifecycle"
	"github.com/vmlet/vmlet/pkg/vm"
)

// ImagesHost is a lifecycle.Images with a registry beside it.
type ImagesHost struct {
	Images lifecycle.Images
	// Registry is the host, with a port, that references to the registry begin with.
	Registry string
	// Publish makes a reference pullable, or moves it. Equal content is an equal disk.
	Publish func(t *testing.T, ref, content string)
	// Disk is the disk file that Publish makes of a content.
	Disk func(t *testing.T, content string) []byte
}

// RunImages is the contract of lifecycle.Images. open returns an empty store.
func RunImages(t *testing.T, open func(t *testing.T) ImagesHost) {
	t.Helper()
	for name, run := range map[string]func(*testing.T, ImagesHost){
		"an image is found by all its names":             imageIsFound,
		"an image says what it is":                       imageIsComplete,
		"a name without a tag is latest":                 tagIsLatest,
		"what is not here is NotFound":                   unknownImageIsNotFound,
		"what is nowhere cannot be pulled":               unknownReferenceIsNotFound,
		"what is no reference is InvalidArgument":        badReferenceIsRefused,
		"names of equal content are one image":           equalContentIsOneImage,
		"names of other content are another image":       otherContentIsAnotherImage,
		"a tag that moved leaves its image nameless":     movedTagLeavesItsImage,
		"pulling again changes nothing":                  pullIsIdempotent,
		"pulls at once give one image":                   pullsAtOnce,
		"removal takes all names":                        removalTakesAllNames,
		"removal by ID":                                  removalByID,
		"removal is idempotent, also at once":            removalIsIdempotent,
		"what was removed can be pulled again":           removedImageIsPulledAgain,
		"an import is an image":                          importIsAnImage,
		"an import of what was pulled is the same image": importOfPulledDisk,
		"an import under a digest is InvalidArgument":    importNeedsATag,
		"usage follows what is stored":                   usageFollows,
		"progress ends with done, and with the call":     progressEnds,
		"a context that has ended ends a pull":           endedContextEndsPull,
		"short strings of hex digits are names, not IDs": shortHexIsAName,
		"the list is in the order of the pulls":          imagesAreInOrder,
	} {
		t.Run(name, func(t *testing.T) { run(t, open(t)) })
	}
}

// publish makes a repository:tag pullable and returns its full reference.
func (h ImagesHost) publish(t *testing.T, repoTag, content string) string {
	t.Helper()
	ref := h.Registry + "/" + repoTag
	h.Publish(t, ref, content)
	return ref
}

func (h ImagesHost) pull(t *testing.T, ref string) vm.Image {
	t.Helper()
	img, err := h.Images.Pull(t.Context(), ref, vm.RegistryAuth{}, nil)
	noError(t, err)
	return img
}

func (h ImagesHost) list(t *testing.T) []vm.Image {
	t.Helper()
	all, err := h.Images.List(t.Context())
	noError(t, err)
	return all
}

func (h ImagesHost) mustResolve(t *testing.T, ref string) vm.Image {
	t.Helper()
	img, err := h.Images.Resolve(t.Context(), ref)
	noError(t, err)
	return img
}

func (h ImagesHost) mustNotHave(t *testing.T, ref string) {
	t.Helper()
	if img, err := h.Images.Resolve(t.Context(), ref); !errdefs.IsNotFound(err) {
		t.Errorf("%s is %s (%v), want NotFound", ref, img.ID, err)
	}
}

func imageIsFound(t *testing.T, h ImagesHost) {
	t.Helper()
	ref := h.publish(t, "vms/tiny:v1", "one")
	img := h.pull(t, ref)
	if !slices.Equal(img.Tags, []string{ref}) || len(img.Digests) != 1 {
		t.Fatalf("tags %v, digests %v, want %s and one digest", img.Tags, img.Digests, ref)
	}
	if !strings.HasPrefix(img.Digests[0], h.Registry+"/vms/tiny@sha256:") {
		t.Errorf("digest %s", img.Digests[0])
	}
	digits := strings.TrimPrefix(img.ID, "sha256:")
	for _, name := range []string{ref, img.Digests[0], img.ID, digits, digits[:13], "sha256:" + digits[:13]} {
		if got := h.mustResolve(t, name); got.ID != img.ID {
			t.Errorf("%s is %s, want %s", name, got.ID, img.ID)
		}
	}
	if all := h.list(t); len(all) != 1 || all[0].ID != img.ID {
		t.Errorf("listed: %v", all)
	}
}

func imageIsComplete(t *testing.T, h ImagesHost) {
	t.Helper()
	img := h.pull(t, h.publish(t, "vms/tiny:v1", "one"))
	if len(img.ID) != len("sha256:")+64 || !filepath.IsAbs(img.Path) || img.Size <= 0 || img.VirtualSize <= 0 || img.PulledAt.IsZero() {
		t.Errorf("%+v", img)
	}
	if img.Format != vm.FormatQCOW2 && img.Format != vm.FormatRaw {
		t.Errorf("format %q", img.Format)
	}
}

func tagIsLatest(t *testing.T, h ImagesHost) {
	t.Helper()
	ref := h.publish(t, "vms/tiny:latest", "one")
	img := h.pull(t, h.Registry+"/vms/tiny")
	if !slices.Equal(img.Tags, []string{ref}) {
		t.Errorf("tags %v, want %s", img.Tags, ref)
	}
	if got := h.mustResolve(t, h.Registry+"/vms/tiny"); got.ID != img.ID {
		t.Errorf("it is %s", got.ID)
	}
}

func unknownImageIsNotFound(t *testing.T, h ImagesHost) {
	t.Helper()
	h.publish(t, "vms/tiny:v1", "one")
	for _, ref := range []string{h.Registry + "/vms/tiny:v1", "tiny", contractImage, contractImage[:20], contractImage[len("sha256:"):]} {
		h.mustNotHave(t, ref)
	}
	if all := h.list(t); len(all) != 0 {
		t.Errorf("listed: %v", all)
	}
}

func unknownReferenceIsNotFound(t *testing.T, h ImagesHost) {
	t.Helper()
	ref := h.publish(t, "vms/tiny:v1", "one")
	for _, missing := range []string{h.Registry + "/vms/tiny:v2", h.Registry + "/vms/other:v1", h.Registry + "/vms/tiny@" + contractImage} {
		if _, err := h.Images.Pull(t.Context(), missing, vm.RegistryAuth{}, nil); !errdefs.IsNotFound(err) {
			t.Errorf("%s: got %v, want NotFound", missing, err)
		}
	}
	h.mustNotHave(t, ref)
}

func badReferenceIsRefused(t *testing.T, h ImagesHost) {
	t.Helper()
	for _, ref := range []string{"", "UPPER/x", "a b", "http://x/y", "x:"} {
		_, pullErr := h.Images.Pull(t.Context(), ref, vm.RegistryAuth{}, nil)
		_, importErr := h.Images.Import(t.Context(), ref, bytes.NewReader(h.Disk(t, "one")), nil)
		_, resolveErr := h.Images.Resolve(t.Context(), ref)
		for method, err := range map[string]error{"Pull": pullErr, "Import": importErr, "Resolve": resolveErr, "Remove": h.Images.Remove(t.Context(), ref)} {
			if !errdefs.IsInvalidArgument(err) {
				t.Errorf("%s(%q): got %v, want InvalidArgument", method, ref, err)
			}
		}
	}
}

func equalContentIsOneImage(t *testing.T, h ImagesHost) {
	t.Helper()
	refs := []string{h.publish(t, "vms/tiny:1", "one"), h.publish(t, "vms/tiny:2", "one"), h.publish(t, "other/name:3", "one")}
	for _, ref := range refs {
		h.pull(t, ref)
	}
	all := h.list(t)
	if len(all) != 1 {
		t.Fatalf("%d images", len(all))
	}
	tags := slices.Sorted(slices.Values(all[0].Tags))
	slices.Sort(refs)
	if !slices.Equal(tags, refs) {
		t.Errorf("tags %v, want %v", tags, refs)
	}
	if len(all[0].Digests) != 2 {
		t.Errorf("digests %v, want one per repository", all[0].Digests)
	}
}

func otherContentIsAnotherImage(t *testing.T, h ImagesHost) {
	t.Helper()
	one, two := h.pull(t, h.publish(t, "vms/tiny:1", "one")), h.pull(t, h.publish(t, "vms/tiny:2", "two"))
	if one.ID == two.ID || one.Path == two.Path || len(h.list(t)) != 2 {
		t.Errorf("%v and %v", one, two)
	}
}

func movedTagLeavesItsImage(t *testing.T, h ImagesHost) {
	t.Helper()
	ref := h.publish(t, "vms/tiny:v1", "one")
	old := h.pull(t, ref)
	h.publish(t, "vms/tiny:v1", "two")
	moved := h.pull(t, ref)
	if got := h.mustResolve(t, ref); moved.ID == old.ID || got.ID != moved.ID {
		t.Errorf("the tag is %s's, pulled was %s, before %s", got.ID, moved.ID, old.ID)
	}
	if got := h.mustResolve(t, old.ID); len(got.Tags) != 0 {
		t.Errorf("the old image has the tags %v", got.Tags)
	}
	if len(h.list(t)) != 2 {
		t.Errorf("listed: %v", h.list(t))
	}
	noError(t, h.Images.Remove(t.Context(), old.ID))
	h.mustNotHave(t, old.ID)
	h.mustResolve(t, ref)
}

func pullIsIdempotent(t *testing.T, h ImagesHost) {
	t.Helper()
	ref := h.publish(t, "vms/tiny:v1", "one")
	first, second := h.pull(t, ref), h.pull(t, ref)
	if second.ID != first.ID || !slices.Equal(second.Tags, first.Tags) || !slices.Equal(second.Digests, first.Digests) || !second.PulledAt.Equal(first.PulledAt) {
		t.Errorf("%+v after %+v", second, first)
	}
}

func pullsAtOnce(t *testing.T, h ImagesHost) {
	t.Helper()
	ref := h.publish(t, "vms/tiny:v1", "one")
	var all sync.WaitGroup
	ids := make(chan string, 8)
	for range cap(ids) {
		all.Go(func() {
			img, err := h.Images.Pull(t.Context(), ref, vm.RegistryAuth{}, nil)
			if err != nil {
				t.Error(err)
			}
			ids <- img.ID
		})
	}
	all.Wait()
	close(ids)
	want := h.mustResolve(t, ref).ID
	for id := range ids {
		if id != want {
			t.Errorf("one got %s, want %s", id, want)
		}
	}
	if len(h.list(t)) != 1 {
		t.Errorf("listed: %v", h.list(t))
	}
}

func removalTakesAllNames(t *testing.T, h ImagesHost) {
	t.Helper()
	a, b := h.publish(t, "vms/tiny:1", "one"), h.publish(t, "other/name:2", "one")
	img := h.pull(t, a)
	h.pull(t, b)
	keep := h.publish(t, "vms/keep:1", "two")
	h.pull(t, keep)
	noError(t, h.Images.Remove(t.Context(), a))
	for _, ref := range []string{a, b, img.ID, img.Digests[0]} {
		h.mustNotHave(t, ref)
	}
	h.mustResolve(t, keep)
}

func removalByID(t *testing.T, h ImagesHost) {
	t.Helper()
	img := h.pull(t, h.publish(t, "vms/tiny:1", "one"))
	noError(t, h.Images.Remove(t.Context(), img.ID))
	h.mustNotHave(t, img.ID)
	if len(h.list(t)) != 0 {
		t.Errorf("listed: %v", h.list(t))
	}
}

func removalIsIdempotent(t *testing.T, h ImagesHost) {
	t.Helper()
	noError(t, h.Images.Remove(t.Context(), "never-seen"))
	noError(t, h.Images.Remove(t.Context(), contractImage))
	ref := h.publish(t, "vms/tiny:1", "one")
	h.pull(t, ref)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if err := h.Images.Remove(t.Context(), ref); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	noError(t, h.Images.Remove(t.Context(), ref))
	h.mustNotHave(t, ref)
}

func removedImageIsPulledAgain(t *testing.T, h ImagesHost) {
	t.Helper()
	ref := h.publish(t, "vms/tiny:1", "one")
	first := h.pull(t, ref)
	noError(t, h.Images.Remove(t.Context(), ref))
	if second := h.pull(t, ref); second.ID != first.ID || !slices.Equal(second.Tags, first.Tags) {
		t.Errorf("%+v after %+v", second, first)
	}
}

func importIsAnImage(t *testing.T, h ImagesHost) {
	t.Helper()
	ref := h.Registry + "/vms/imported"
	img, err := h.Images.Import(t.Context(), ref, bytes.NewReader(h.Disk(t, "one")), nil)
	noError(t, err)
	if !slices.Equal(img.Tags, []string{ref + ":latest"}) || len(img.Digests) != 0 {
		t.Errorf("tags %v, digests %v", img.Tags, img.Digests)
	}
	if got := h.mustResolve(t, ref); got.ID != img.ID {
		t.Errorf("it is %s, want %s", got.ID, img.ID)
	}
	other, err := h.Images.Import(t.Context(), ref, bytes.NewReader(h.Disk(t, "two")), nil)
	noError(t, err)
	if got := h.mustResolve(t, ref); got.ID != other.ID || other.ID == img.ID {
		t.Errorf("it is still %s", got.ID)
	}
}

func importOfPulledDisk(t *testing.T, h ImagesHost) {
	t.Helper()
	ref := h.publish(t, "vms/tiny:1", "one")
	pulled := h.pull(t, ref)
	imported, err := h.Images.Import(t.Context(), h.Registry+"/vms/imported:x", bytes.NewReader(h.Disk(t, "one")), nil)
	noError(t, err)
	if imported.ID != pulled.ID || len(imported.Tags) != 2 {
		t.Errorf("%+v, pulled was %+v", imported, pulled)
	}
}

func importNeedsATag(t *testing.T, h ImagesHost) {
	t.Helper()
	_, err := h.Images.Import(t.Context(), h.Registry+"/vms/x@"+contractImage, bytes.NewReader(h.Disk(t, "one")), nil)
	if !errdefs.IsInvalidArgument(err) || len(h.list(t)) != 0 {
		t.Errorf("got %v, want InvalidArgument", err)
	}
}

func usageFollows(t *testing.T, h ImagesHost) {
	t.Helper()
	usage := func() vm.FSUsage {
		u, err := h.Images.Usage(t.Context())
		noError(t, err)
		return u
	}
	before := usage()
	img := h.pull(t, h.publish(t, "vms/tiny:1", "one"))
	with := usage()
	if with.UsedBytes <= before.UsedBytes || with.UsedInodes <= before.UsedInodes || with.MountPoint == "" || with.At.IsZero() {
		t.Errorf("%+v after %+v", with, before)
	}
	noError(t, h.Images.Remove(t.Context(), img.ID))
	if after := usage(); after.UsedBytes != before.UsedBytes || after.UsedInodes != before.UsedInodes {
		t.Errorf("%+v at the end, %+v at the beginning", after, before)
	}
}

func progressEnds(t *testing.T, h ImagesHost) {
	t.Helper()
	ref := h.publish(t, "vms/tiny:1", "one")
	for _, round := range []string{"a pull", "a pull of what is here"} {
		var mu sync.Mutex
		var told []vm.PullProgress
		returned := false
		_, err := h.Images.Pull(t.Context(), ref, vm.RegistryAuth{}, func(p vm.PullProgress) {
			mu.Lock()
			defer mu.Unlock()
			if returned {
				t.Errorf("%s: progress after its end", round)
			}
			told = append(told, p)
		})
		mu.Lock()
		returned = true
		if err != nil || len(told) == 0 || told[len(told)-1].Phase != "done" {
			t.Errorf("%s: told %v (%v)", round, told, err)
		}
		mu.Unlock()
	}
}

func endedContextEndsPull(t *testing.T, h ImagesHost) {
	t.Helper()
	ended, end := context.WithCancel(t.Context())
	end()
	ref := h.publish(t, "vms/tiny:1", "one")
	if _, err := h.Images.Pull(ended, ref, vm.RegistryAuth{}, nil); !errdefs.IsCanceled(err) {
		t.Errorf("got %v, want Canceled", err)
	}
	h.pull(t, ref)
}

func shortHexIsAName(t *testing.T, h ImagesHost) {
	t.Helper()
	img := h.pull(t, h.publish(t, "vms/tiny:1", "one"))
	h.mustNotHave(t, strings.TrimPrefix(img.ID, "sha256:")[:6])
}

func imagesAreInOrder(t *testing.T, h ImagesHost) {
	t.Helper()
	var want []string
	for i := range 5 {
		want = append(want, h.pull(t, h.publish(t, fmt.Sprintf("vms/tiny:%d", i), fmt.Sprintf("content %d", i))).ID)
	}
	var got []string
	for _, img := range h.list(t) {
		got = append(got, img.ID)
	}
	if !slices.Equal(got, want) {
		t.Errorf("listed %v, want %v", got, want)
	}
}
