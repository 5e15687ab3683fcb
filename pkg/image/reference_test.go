// SPDX-License-Identifier: Apache-2.0

package image

import (
	"strings"
	"testing"

	"github.com/containerd/errdefs"
)

var someDigest = "sha256:" + strings.Repeat("ab", 32)

func TestReferencesAreFilledInAsDockerDoes(t *testing.T) {
	for asked, want := range map[string]string{
		"busybox":                         "docker.io/library/busybox:latest",
		"busybox:1.36":                    "docker.io/library/busybox:1.36",
		"vms/tiny":                        "docker.io/vms/tiny:latest",
		"docker.io/busybox":               "docker.io/library/busybox:latest",
		"index.docker.io/library/busybox": "docker.io/library/busybox:latest",
		"gcr.io/k8s-staging-cri-tools/test-image":  "gcr.io/k8s-staging-cri-tools/test-image:latest",
		"registry.k8s.io/pause:3.9":                "registry.k8s.io/pause:3.9",
		"localhost/tiny":                           "localhost/tiny:latest",
		"localhost:5000/tiny:v1":                   "localhost:5000/tiny:v1",
		"127.0.0.1:5000/a/b/c:v1":                  "127.0.0.1:5000/a/b/c:v1",
		"quay.io/x/y@" + someDigest:                "quay.io/x/y@" + someDigest,
		"quay.io/x/y:v1@" + someDigest:             "quay.io/x/y@" + someDigest,
		"busybox@" + someDigest:                    "docker.io/library/busybox@" + someDigest,
		"[::1]:5000/tiny":                          "[::1]:5000/tiny:latest",
		"node1:5000/" + strings.Repeat("a", 64):    "node1:5000/" + strings.Repeat("a", 64) + ":latest",
		"gcr.io/k8s-staging-cri-tools/img:tag.x_-": "gcr.io/k8s-staging-cri-tools/img:tag.x_-",
	} {
		if got, err := parseReference(asked); err != nil || got.String() != want {
			t.Errorf("%s: got %v (%v), want %s", asked, got, err, want)
		}
		again, err := parseReference(want)
		if err != nil || again.String() != want {
			t.Errorf("%s is not its own full name: %v (%v)", want, again, err)
		}
	}
}

func TestWhatIsNoReferenceIsInvalid(t *testing.T) {
	for _, asked := range []string{"", " ", "Busybox", "a b", "http://x/y", "x:", "x@sha256:12", "x@", "x/y:" + strings.Repeat("t", 129), "x\n"} {
		if got, err := parseReference(asked); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%q: got %v (%v), want InvalidArgument", asked, got, err)
		}
	}
}

func TestAliases(t *testing.T) {
	as, err := newAliases([]Alias{
		{"registry.k8s.io/pause:3.9", "node1:5000/tiny:v1"},
		{"busybox", "node1:5000/busybox"},
		{"gcr.io/k8s-staging-cri-tools/*", "node1:5000/tiny:v1"},
		{"gcr.io/*", "node1:5000/never/*"},
		{"quay.io/*", "mirror.example/quay/*"},
		{"*/by-suffix:latest", "node1:5000/*/suffix:latest"},
	})
	must0(t, err)
	for asked, want := range map[string]string{
		"registry.k8s.io/pause:3.9":                      "node1:5000/tiny:v1",
		"registry.k8s.io/pause:3.10":                     "registry.k8s.io/pause:3.10",
		"docker.io/library/busybox":                      "node1:5000/busybox:latest",
		"busybox:1.36":                                   "docker.io/library/busybox:1.36",
		"gcr.io/k8s-staging-cri-tools/test-image-1":      "node1:5000/tiny:v1",
		"gcr.io/k8s-staging-cri-tools/a/b@" + someDigest: "node1:5000/tiny:v1",
		"gcr.io/other":                                   "node1:5000/never/other:latest",
		"quay.io/x/y:z":                                  "mirror.example/quay/x/y:z",
		"quay.io/x/y@" + someDigest:                      "mirror.example/quay/x/y@" + someDigest,
		"a.example/b/by-suffix":                          "node1:5000/a.example/b/suffix:latest",
		"quay.io.example/x":                              "quay.io.example/x:latest",
	} {
		r, err := parseReference(asked)
		must0(t, err)
		if got, err := as.source(r); err != nil || got.String() != want {
			t.Errorf("%s: got %v (%v), want %s", asked, got, err, want)
		}
	}
}

func TestBadAliasesAreRefused(t *testing.T) {
	for _, a := range []Alias{
		{"a/*/*", "b/c"}, {"a/*", "b/*/*"}, {"a/b", "c/*"}, {"A B", "c/d"}, {"a/b", "C D"}, {"a/*", "C D"}, {"", "a/b"}, {"a/b", ""},
	} {
		if _, err := newAliases([]Alias{a}); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%+v: got %v, want InvalidArgument", a, err)
		}
	}
	as, err := newAliases([]Alias{{"a.example/*", "UPPER/*"}})
	must0(t, err)
	if _, err := as.source(reference{repo: "a.example/x", tag: "y"}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("an alias that leads to no reference: got %v, want InvalidArgument", err)
	}
}

func TestAliasedImagesKeepTheNameTheyWereAskedBy(t *testing.T) {
	reg := newRegistry(t)
	img := artifact(t, rawType, rawDisk(1, mib))
	reg.push("tiny:v1", img)
	s := openStore(t, func(c *Config) {
		c.Aliases = []Alias{{"registry.k8s.io/pause:3.9", reg.host + "/tiny:v1"}, {"k8s.gcr.io/*", reg.host + "/tiny:v1"}}
	})
	got := pullOK(t, s, "registry.k8s.io/pause:3.9")
	if len(got.Tags) != 1 || got.Tags[0] != "registry.k8s.io/pause:3.9" {
		t.Errorf("tags %v", got.Tags)
	}
	if want := "registry.k8s.io/pause@" + digestOf(t, img); len(got.Digests) != 1 || got.Digests[0] != want {
		t.Errorf("digests %v, want %s", got.Digests, want)
	}
	if other := pullOK(t, s, "k8s.gcr.io/pause:3.9"); other.ID != got.ID || len(other.Tags) != 2 {
		t.Errorf("by the other name: %+v", other)
	}

	// A digest is a promise: the alias leads to an image of another one.
	_, err := s.Pull(t.Context(), "k8s.gcr.io/pause@"+someDigest, noAuth, nil)
	if !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), "alias of "+reg.host+"/tiny:v1") {
		t.Errorf("got %v, want FailedPrecondition", err)
	}
	if _, err := s.Resolve(t.Context(), "k8s.gcr.io/pause@"+someDigest); !errdefs.IsNotFound(err) {
		t.Errorf("got %v, want NotFound", err)
	}
}

func TestNamesThatAreAliasesOfAStoredImageResolve(t *testing.T) {
	s := openStore(t, func(c *Config) { c.Aliases = []Alias{{"registry.k8s.io/pause:3.9", "tiny:v1"}} })
	img := importOK(t, s, "tiny:v1", rawDisk(1, mib))
	got, err := s.Resolve(t.Context(), "registry.k8s.io/pause:3.9")
	if err != nil || got.ID != img.ID {
		t.Errorf("got %v (%v), want %s", got.ID, err, img.ID)
	}
}

func TestAliasesCanBeReplaced(t *testing.T) {
	s := openStore(t)
	img := importOK(t, s, "tiny:v1", rawDisk(1, mib))
	if err := s.SetAliases([]Alias{{"a/*/*", "x"}}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("got %v, want InvalidArgument", err)
	}
	if _, err := s.Resolve(t.Context(), "registry.k8s.io/pause:3.9"); !errdefs.IsNotFound(err) {
		t.Errorf("got %v, want NotFound", err)
	}
	must0(t, s.SetAliases([]Alias{{"registry.k8s.io/pause:3.9", "tiny:v1"}}))
	if got, err := s.Resolve(t.Context(), "registry.k8s.io/pause:3.9"); err != nil || got.ID != img.ID {
		t.Errorf("got %v (%v), want %s", got.ID, err, img.ID)
	}
}
