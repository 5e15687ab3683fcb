// SPDX-License-Identifier: Apache-2.0

package image

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"github.com/containerd/errdefs"
	"github.com/google/go-containerregistry/pkg/authn"

	"github.com/vmlet/vmlet/pkg/vm"
)

// Pull fetches the image that a reference stands for now, or finds that it is here, and
// returns it under that name. Callers who ask for the same at the same time with the same
// credentials share one pull; it ends when the last of them gives up. progress may be nil.
//
// Errors: InvalidArgument for what is no reference; NotFound if the registry does not have
// it, or not for this architecture; Unauthenticated or PermissionDenied; FailedPrecondition
// for what is no usable disk, and says why; DataLoss if the registry sent other content
// than its digest stands for; ResourceExhausted if there is no room; Unavailable if the
// registry does not answer or broke off too often. None leaves anything behind.
func (s *Store) Pull(ctx context.Context, ref string, auth vm.RegistryAuth, progress func(vm.PullProgress)) (vm.Image, error) {
	p, err := s.newPull(ref, auth)
	if err != nil {
		return vm.Image{}, fmt.Errorf("pull %s: %w", ref, err)
	}
	img, err := s.flights.do(ctx, p.key(auth), progress, p.run)
	if err != nil {
		if p.from != p.asked {
			return vm.Image{}, fmt.Errorf("pull %s, which is an alias of %s: %w", p.asked, p.from, err)
		}
		return vm.Image{}, fmt.Errorf("pull %s: %w", p.asked, err)
	}
	return img, nil
}

// pull is one pull on its way.
type pull struct {
	store *Store
	asked reference // the name that the image is to have
	from  reference // where an alias leads
	auth  authn.Authenticator
}

func (s *Store) newPull(ref string, auth vm.RegistryAuth) (*pull, error) {
	asked, err := parseReference(ref)
	if err != nil {
		return nil, err
	}
	from, err := s.aliases.Load().source(asked)
	if err != nil {
		return nil, err
	}
	creds, err := credentials(auth)
	if err != nil {
		return nil, err
	}
	return &pull{store: s, asked: asked, from: from, auth: authenticator(creds, auth.ServerAddress, asked, from)}, nil
}

// key is the same for calls that may share the work. Whoever has other credentials must
// show that they are good for it.
func (p *pull) key(auth vm.RegistryAuth) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%q", auth))
	return p.asked.String() + " " + hex.EncodeToString(sum[:])
}

func (p *pull) run(ctx context.Context, tellAll func(vm.PullProgress)) (vm.Image, error) {
	var last vm.PullProgress
	tell := func(now vm.PullProgress) { last = now; tellAll(now) }
	tell(vm.PullProgress{Phase: phaseResolving})
	sess, err := p.store.connect(ctx, p.from, p.auth)
	if err != nil {
		return vm.Image{}, err
	}
	img, ok, err := p.unchanged(ctx, sess)
	if err == nil && !ok {
		img, err = p.fetch(ctx, sess, tell)
	}
	if err != nil {
		return vm.Image{}, err
	}
	tell(vm.PullProgress{Phase: phaseDone, Done: last.Done, Total: last.Total})
	return img, nil
}

// unchanged asks, if there is an image of this name, whether the registry's is still the
// same.
func (p *pull) unchanged(ctx context.Context, sess *session) (img vm.Image, ok bool, err error) {
	if _, known := p.store.catalog.Load().names[p.asked.String()]; !known {
		return vm.Image{}, false, nil
	}
	digest, err := sess.currentDigest(ctx, p.from.identifier())
	if errdefs.IsFailedPrecondition(err) || err == nil && digest == "" {
		return vm.Image{}, false, nil // some registries do not do HEAD
	}
	if err == nil {
		err = p.keepsPromise(digest)
	}
	if err != nil {
		return vm.Image{}, false, err
	}
	return p.byManifest(ctx, digest)
}

// keepsPromise refuses a manifest that an alias led to if the asked name has the digest of
// another one.
func (p *pull) keepsPromise(digest string) error {
	if p.asked.digest != "" && p.asked.digest != digest {
		return refused("it has the digest %s, other than the one asked for", digest)
	}
	return nil
}

// byManifest names the image that a manifest is known to stand for.
func (p *pull) byManifest(ctx context.Context, digest string) (img vm.Image, ok bool, err error) {
	return p.store.adopt(ctx, origin{name: p.asked, digest: digest, manifests: []string{digest}}, func(c *catalog) (string, bool) {
		id, ok := c.manifests[digest]
		return id, ok
	})
}

// fetch gets the manifest and then as little as possible.
func (p *pull) fetch(ctx context.Context, sess *session, tell func(vm.PullProgress)) (vm.Image, error) {
	body, digest, err := sess.manifest(ctx, p.from.identifier())
	if err == nil {
		err = p.keepsPromise(digest)
	}
	if err != nil {
		return vm.Image{}, err
	}
	if img, ok, err := p.byManifest(ctx, digest); ok || err != nil {
		return img, err
	}
	todo, err := sess.plan(ctx, body, digest, p.store.arch)
	if err != nil {
		return vm.Image{}, err
	}
	from := origin{name: p.asked, digest: digest, manifests: todo.manifests, content: todo.key()}

	unlock, err := p.store.fetching.Lock(ctx, from.content)
	if err != nil {
		return vm.Image{}, err
	}
	defer unlock()
	img, ok, err := p.store.adopt(ctx, from, func(c *catalog) (string, bool) {
		id, ok := c.contents[from.content]
		return id, ok
	})
	if ok || err != nil {
		return img, err
	}
	m := newMeter(tell, p.store.now, todo.total)
	got, err := p.store.download(ctx, sess, todo, m)
	if err != nil {
		return vm.Image{}, err
	}
	m.phase(phaseVerifying)
	return p.store.commit(ctx, got, from)
}

// identifier is the tag or the digest, as registries' URLs have it.
func (r reference) identifier() string {
	if r.digest != "" {
		return r.digest
	}
	return r.tag
}
