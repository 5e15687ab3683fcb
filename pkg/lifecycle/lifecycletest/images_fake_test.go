// SPDX-License-Identifier: Apache-2.0

package lifecycletest_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/vmlet/vmlet/pkg/lifecycle/lifecycletest"
	"github.com/vmlet/vmlet/pkg/vm"
)

func TestFakeImagesKeepTheContract(t *testing.T) {
	lifecycletest.RunImages(t, func(*testing.T) lifecycletest.ImagesHost {
		fake := lifecycletest.NewImages()
		return lifecycletest.ImagesHost{
			Images:   fake,
			Registry: "registry.test:5000",
			Publish:  func(_ *testing.T, ref, content string) { fake.Publish(ref, content) },
			Disk:     func(_ *testing.T, content string) []byte { return []byte(content) },
		}
	})
}

func TestFakeImagesFailAsPlanned(t *testing.T) {
	fake, broken := lifecycletest.NewImages(), errors.New("broken")
	img := fake.Add("tiny")
	fake.FailNext("Resolve", broken)
	if _, err := fake.Resolve(t.Context(), "tiny"); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	if got, err := fake.Resolve(t.Context(), "tiny:latest"); err != nil || got.ID != img.ID {
		t.Errorf("got %v (%v)", got, err)
	}
	fake.FailNext("Pull", broken)
	if _, err := fake.Pull(t.Context(), "tiny", vm.RegistryAuth{}, nil); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	if want := []string{"Resolve tiny", "Resolve tiny:latest", "Pull tiny"}; !slices.Equal(fake.Calls(), want) {
		t.Errorf("calls %v, want %v", fake.Calls(), want)
	}
}
