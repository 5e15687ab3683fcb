// SPDX-License-Identifier: Apache-2.0

package log

import (
	"regexp"
	"strings"
)

var (
	// urlScheme is the beginning of a URL (RFC 3986).
	urlScheme = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9+.-]*://`)
	// digest is the end of a reference by digest.
	digest = regexp.MustCompile(`@sha256:[0-9a-f]+$`)
)

// WithoutLogin takes what may be secret out of an image's reference that was written like a URL: "user:password@" before
// the host, and a query, which may be a signature.
func WithoutLogin(ref string) string {
	scheme := urlScheme.FindString(ref)
	rest, _, _ := strings.Cut(ref[len(scheme):], "?")
	name := digest.ReplaceAllString(rest, "")
	byDigest := rest[len(name):]
	return scheme + name[strings.LastIndexByte(name, '@')+1:] + byDigest
}
