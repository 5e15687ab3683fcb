// SPDX-License-Identifier: Apache-2.0

package image

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	oci "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// maxManifest is what a manifest and an image's config may have, in bytes: what
// registries accept (the OCI distribution specification asks for 4 MiB).
const maxManifest = 4 << 20

// session speaks to one repository of a registry, with whatever it asked for to
// authenticate. It implements the pull half of the OCI distribution specification.
type session struct {
	repo   name.Repository
	client *http.Client
	retry  retryPolicy
}

// connect asks the registry how it wants to be spoken to.
func (s *Store) connect(ctx context.Context, from reference, auth authn.Authenticator) (*session, error) {
	var opts []name.Option
	plainHTTP := plainHTTPAllowed(from.registry(), s.cfg.Insecure)
	if plainHTTP {
		opts = append(opts, name.Insecure)
	}
	repo, err := name.NewRepository(from.repo, opts...)
	if err != nil {
		return nil, fmt.Errorf("repository %s: %w", from.repo, errdefs.ErrInvalidArgument)
	}
	sess := &session{repo: repo, retry: s.retry}
	err = sess.retry.do(ctx, func(ctx context.Context) error {
		rt, err := transport.NewWithContext(ctx, repo.Registry, auth, s.transport, []string{repo.Scope(transport.PullScope)})
		if err != nil {
			return handshakeError(ctx, repo.RegistryStr(), plainHTTP, err)
		}
		sess.client = &http.Client{Transport: rt, CheckRedirect: checkRedirect}
		return nil
	})
	return sess, err
}

// get sends one request for a manifest or a blob. The caller closes the body.
func (s *session) get(ctx context.Context, method, kind, id string, header http.Header, want ...int) (*http.Response, error) {
	url := fmt.Sprintf("https://%s/v2/%s/%s/%s", s.repo.RegistryStr(), s.repo.RepositoryStr(), kind, id)
	req, err := http.NewRequestWithContext(ctx, method, url, http.NoBody)
	if err != nil {
		return nil, err
	}
	req.Header = header
	resp, err := s.client.Do(req)
	if err != nil {
		return nil, requestError(ctx, s.repo.RegistryStr(), err)
	}
	if err := transport.CheckError(resp, want...); err != nil {
		_ = resp.Body.Close() //nolint:errcheck // the status is the error
		return nil, requestError(ctx, s.repo.RegistryStr(), err)
	}
	return resp, nil
}

var acceptManifests = http.Header{"Accept": {strings.Join([]string{
	string(types.OCIManifestSchema1), string(types.OCIImageIndex),
	string(types.DockerManifestSchema2), string(types.DockerManifestList),
}, ", ")}}

// currentDigest is the digest of the manifest that a tag stands for now, "" if the
// registry does not say. It costs nothing: Docker Hub does not count it as a pull.
func (s *session) currentDigest(ctx context.Context, tag string) (digest string, err error) {
	err = s.retry.do(ctx, func(ctx context.Context) error {
		resp, err := s.get(ctx, http.MethodHead, "manifests", tag, acceptManifests.Clone(), http.StatusOK)
		if err != nil {
			return err
		}
		digest = resp.Header.Get("Docker-Content-Digest")
		return resp.Body.Close()
	})
	if _, invalid := oci.NewHash(digest); invalid != nil {
		digest = ""
	}
	return digest, err
}

// manifest fetches a manifest by tag or digest, and returns it with its digest, which for a
// digest is checked to be the one asked for.
func (s *session) manifest(ctx context.Context, id string) (body []byte, digest string, err error) {
	err = s.retry.do(ctx, func(ctx context.Context) error {
		resp, err := s.get(ctx, http.MethodGet, "manifests", id, acceptManifests.Clone(), http.StatusOK)
		if err != nil {
			return err
		}
		body, err = s.readAll(ctx, resp)
		return err
	})
	if err != nil {
		return nil, "", err
	}
	digest, err = verify(body, id)
	return body, digest, err
}

// smallBlob fetches a blob that is read as a whole.
func (s *session) smallBlob(ctx context.Context, digest oci.Hash) (body []byte, err error) {
	err = s.retry.do(ctx, func(ctx context.Context) error {
		resp, err := s.get(ctx, http.MethodGet, "blobs", digest.String(), http.Header{}, http.StatusOK)
		if err != nil {
			return err
		}
		body, err = s.readAll(ctx, resp)
		return err
	})
	if err != nil {
		return nil, err
	}
	_, err = verify(body, digest.String())
	return body, err
}

func (s *session) readAll(ctx context.Context, resp *http.Response) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxManifest+1))
	err = errors.Join(err, resp.Body.Close())
	if err != nil {
		return nil, requestError(ctx, s.repo.RegistryStr(), err)
	}
	if len(b) > maxManifest {
		return nil, refused("a manifest or config of more than %d bytes", maxManifest)
	}
	return b, nil
}

// verify returns the digest of a document, which if asked is a digest must be that one.
func verify(body []byte, asked string) (digest string, err error) {
	want, err := oci.NewHash(asked)
	algorithm := "sha256"
	if err == nil {
		algorithm = want.Algorithm
	}
	sum, hashErr := oci.Hasher(algorithm)
	if hashErr != nil {
		return "", refused("digest algorithm %q", algorithm)
	}
	sum.Write(body)
	digest = algorithm + ":" + hex.EncodeToString(sum.Sum(nil))
	if err == nil && digest != want.String() {
		return "", lied(want.String(), digest)
	}
	return digest, nil
}

// lied is the error of content that is not what its digest says.
func lied(want, got string) error {
	return fmt.Errorf("the registry sent other content than it was asked for: digest %s, asked for %s: %w", got, want, errdefs.ErrDataLoss)
}
