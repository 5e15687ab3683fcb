// SPDX-License-Identifier: Apache-2.0

package image

import (
	"encoding/base64"
	"fmt"
	"net/url"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/google/go-containerregistry/pkg/authn"

	"github.com/vmlet/vmlet/pkg/vm"
)

// credentials turns CRI's AuthConfig into what answers a registry's challenge. The error
// is InvalidArgument and holds nothing of what was given.
func credentials(a vm.RegistryAuth) (authn.AuthConfig, error) {
	c := authn.AuthConfig{
		Username: a.Username, Password: a.Password,
		IdentityToken: a.IdentityToken, RegistryToken: a.RegistryToken,
	}
	if a.Auth == "" || c.Username != "" || c.IdentityToken != "" || c.RegistryToken != "" {
		return c, nil
	}
	encoding := base64.StdEncoding
	if !strings.HasSuffix(a.Auth, "=") {
		encoding = base64.RawStdEncoding
	}
	b, err := encoding.DecodeString(a.Auth)
	user, password, ok := strings.Cut(string(b), ":")
	if err != nil || !ok {
		return authn.AuthConfig{}, fmt.Errorf("the registry credentials' auth field is not base64 of user:password: %w", errdefs.ErrInvalidArgument)
	}
	// docker pads what it encodes with NULs.
	c.Username, c.Password = user, strings.Trim(password, "\x00")
	return c, nil
}

// authenticator decides whether the credentials are for a registry. They were given for
// the one that the caller named; where an alias leads elsewhere, and where they name
// another server themselves, the registry is asked anonymously.
func authenticator(c authn.AuthConfig, server string, asked, from reference) authn.Authenticator {
	if c == (authn.AuthConfig{}) {
		return authn.Anonymous
	}
	if server != "" {
		if serverHost(server) != from.registry() {
			return authn.Anonymous
		}
	} else if asked.registry() != from.registry() {
		return authn.Anonymous
	}
	return authn.FromConfig(c)
}

// serverHost is the registry that a ServerAddress names: a host, or a URL as in docker's
// configuration. Docker Hub has three names.
func serverHost(server string) string {
	host := server
	if u, err := url.Parse(server); err == nil && u.Host != "" {
		host = u.Host
	}
	host, _, _ = strings.Cut(host, "/")
	if host == dockerHubAPI || host == "registry-1.docker.io" {
		return dockerHub
	}
	return host
}
