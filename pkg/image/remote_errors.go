// SPDX-License-Identifier: Apache-2.0

package image

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// What a registry or a token service says is never repeated, only its status and error
// code: it may echo what it was sent, credentials included. Nor are URLs: those of a
// redirect are signed, so they are credentials themselves.

// handshakeError explains why a registry could not be authenticated with.
func handshakeError(ctx context.Context, registry string, plainHTTP bool, err error) error {
	if !plainHTTP && errors.Is(err, http.ErrSchemeMismatch) {
		return plainHTTPRefused(registry)
	}
	var status *transport.Error
	var sent *url.Error
	if ctx.Err() != nil || errors.As(err, &status) || errors.As(err, &sent) {
		return requestError(ctx, registry, err)
	}
	// Made before credentials come into play; a realm is where a token is to be had.
	const realm = "invalid realm in www-authenticate"
	if text := err.Error(); strings.HasPrefix(text, realm) {
		return fmt.Errorf("registry %s: %s: %w", registry, text, errdefs.ErrFailedPrecondition)
	}
	return fmt.Errorf("registry %s asks for an authentication that cannot be given: %w", registry, errdefs.ErrFailedPrecondition)
}

// requestError gives the error of a request its class. Only Unavailable is worth trying
// again.
func requestError(ctx context.Context, registry string, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	// Before the status: a registry on this host is asked over plain HTTP, too, and what
	// speaks TLS answers that with one.
	if certificate, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return fmt.Errorf("registry %s: %w: %w", registry, certificate, errdefs.ErrFailedPrecondition)
	}
	if status, ok := errors.AsType[*transport.Error](err); ok {
		return statusError(registry, status)
	}
	inner := withoutURL(err)
	switch {
	case errdefs.IsFailedPrecondition(inner), errdefs.IsUnavailable(inner):
		return fmt.Errorf("registry %s: %w", registry, inner)
	default:
		// Its text only: nobody may take a connection's EOF for the end of a layer.
		return fmt.Errorf("registry %s: %s: %w", registry, inner.Error(), errdefs.ErrUnavailable)
	}
}

// statusClasses are the statuses that mean something other than that the registry, or
// what stands before it, is in trouble.
var statusClasses = map[int]error{
	http.StatusBadRequest:       errdefs.ErrInvalidArgument,
	http.StatusUnauthorized:     errdefs.ErrUnauthenticated,
	http.StatusForbidden:        errdefs.ErrPermissionDenied,
	http.StatusNotFound:         errdefs.ErrNotFound,
	http.StatusMethodNotAllowed: errdefs.ErrFailedPrecondition,
	http.StatusNotAcceptable:    errdefs.ErrFailedPrecondition,
}

func statusError(registry string, e *transport.Error) error {
	class, ok := statusClasses[e.StatusCode]
	if !ok {
		class = errdefs.ErrUnavailable
	}
	var codes []string
	for _, d := range e.Errors {
		if isCode(string(d.Code)) {
			codes = append(codes, string(d.Code))
		}
	}
	text := fmt.Sprintf("HTTP %d %s", e.StatusCode, http.StatusText(e.StatusCode))
	if len(codes) > 0 {
		text += " (" + strings.Join(codes, ", ") + ")"
	}
	return fmt.Errorf("registry %s: %s: %w", registry, text, class)
}

// isCode tells whether a text is one of the error codes of the OCI distribution
// specification in form: capitals and underscores.
func isCode(s string) bool {
	return s != "" && len(s) <= 32 && strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZ_") == ""
}

// withoutURL is the error below net/http's, which shows the URL of the last redirect.
func withoutURL(err error) error {
	if sent, ok := errors.AsType[*url.Error](err); ok {
		return sent.Err
	}
	return err
}
