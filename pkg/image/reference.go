// SPDX-License-Identifier: Apache-2.0

package image

import (
	"fmt"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/google/go-containerregistry/pkg/name"
)

// Docker Hub's name in references, and what go-containerregistry makes of it.
const (
	dockerHub    = "docker.io"
	dockerHubAPI = name.DefaultRegistry
)

// reference is a name with everything filled in that a caller may leave out.
type reference struct {
	repo string // registry and repository
	// tag or digest: exactly one is set
	tag    string
	digest string
}

// parseReference reads a docker reference; the package comment says what is filled in.
// The error is InvalidArgument.
func parseReference(s string) (reference, error) {
	parsed, err := name.ParseReference(s, name.WeakValidation)
	if err != nil {
		return reference{}, fmt.Errorf("%q is not a docker reference (registry/repository:tag): %w", s, errdefs.ErrInvalidArgument)
	}
	r := reference{repo: parsed.Context().Name()}
	if rest, ok := strings.CutPrefix(r.repo, dockerHubAPI+"/"); ok {
		r.repo = dockerHub + "/" + rest
	}
	switch p := parsed.(type) {
	case name.Digest:
		r.digest = p.DigestStr()
	default:
		r.tag = p.Identifier()
	}
	return r, nil
}

// String is the name as the store keeps it and shows it in Tags and Digests.
func (r reference) String() string {
	if r.digest != "" {
		return r.repo + "@" + r.digest
	}
	return r.repo + ":" + r.tag
}

// registry is the host, with a port if there is one, that the repository is in.
func (r reference) registry() string {
	host, _, _ := strings.Cut(r.repo, "/")
	return host
}

// minIDPrefix is how many digits of an ID do without "sha256:" in front. Fewer are a
// name only: whoever asks for the image "cafe" means docker.io/library/cafe, even if an
// ID begins so. crictl shows 13.
const minIDPrefix = 12

// idQuery tells what prefix of an image ID a caller may have meant. exact is set if it can
// be nothing else.
func idQuery(ref string) (prefix string, exact, ok bool) {
	if digits, found := strings.CutPrefix(ref, idPrefix); found {
		return ref, true, isHex(digits) && len(digits) <= 64
	}
	return idPrefix + ref, false, isHex(ref) && len(ref) >= minIDPrefix && len(ref) <= 64
}
