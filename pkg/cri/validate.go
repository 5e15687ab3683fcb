// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"path/filepath"
	"regexp"
	"strings"
	"unicode"
)

// Names of pods, namespaces, UIDs and containers become parts of file names, of CNI
// arguments (separated by ";") and of the domain's title, so only what cannot mean
// anything there is let through. Every name that Kubernetes allows passes.
var nameSyntax = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)

const (
	maxName = 253 // a Kubernetes object name (RFC 1123 subdomain)
	// maxContainerName leaves room in a file name (255 bytes) for what paths.RootDisk adds.
	maxContainerName = 128
)

func checkName(field, name string, limit int) error {
	switch {
	case name == "":
		return invalid(field, "must not be empty")
	case len(name) > limit:
		return invalid(field, "is %d bytes long, more than %d", len(name), limit)
	case !nameSyntax.MatchString(name):
		return invalid(field, "%q must start with a letter or digit and hold only letters, digits, '.', '_' and '-'", name)
	}
	return nil
}

// checkID refuses an empty ID: as a prefix it would fit everything.
func checkID(field, id string) error {
	if id == "" {
		return invalid(field, "must not be empty")
	}
	return nil
}

// hostnameSyntax is a host name by RFC 1123, with dots where the pod asks for its FQDN.
var hostnameSyntax = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*$`)

const (
	maxHostname = 64 // HOST_NAME_MAX, see sethostname(2)
	maxLabel    = 63 // RFC 1035
)

func checkHostname(field, name string) error {
	if len(name) > maxHostname {
		return invalid(field, "is %d bytes long, more than a kernel takes (%d)", len(name), maxHostname)
	}
	if !hostnameSyntax.MatchString(name) {
		return invalid(field, "%q is no host name (RFC 1123)", name)
	}
	return nil
}

// hostnameFor makes a host name out of a pod name that passed checkName, for callers
// that give none: the guest needs one.
func hostnameFor(pod string) string {
	label := strings.Map(func(r rune) rune {
		if r == '_' || r == '.' {
			return '-'
		}
		return r
	}, pod)
	if len(label) > maxLabel {
		label = label[:maxLabel]
	}
	return strings.TrimRight(label, "-")
}

// checkHostPath demands an absolute path on the host that does not climb.
func checkHostPath(field, path string) error {
	switch {
	case !filepath.IsAbs(path):
		return invalid(field, "%q is not an absolute path", path)
	case climbs(path), hasControl(path):
		return invalid(field, "%q must not hold \"..\" or control characters", path)
	}
	return nil
}

func climbs(path string) bool {
	for part := range strings.SplitSeq(path, "/") {
		if part == ".." {
			return true
		}
	}
	return false
}

func hasControl(s string) bool { return strings.ContainsFunc(s, unicode.IsControl) }
