// SPDX-License-Identifier: Apache-2.0

package image

import (
	"fmt"
	"strings"

	"github.com/containerd/errdefs"
)

// Alias sends those who ask for one name to another: what Pattern matches is pulled from
// Name, and keeps the name it was asked by.
//
// Pattern is a name, or a name with one `*` that stands for any run of characters, none
// and "/" included. It is compared with the whole name, everything filled in
// ("docker.io/library/busybox:latest"); a pattern without `*` is filled in likewise. A `*` in
// Name is replaced by what the pattern's stood for.
//
//	{registry.k8s.io/pause:3.9,       node1:5000/tiny:latest}  one name
//	{gcr.io/k8s-staging-cri-tools/*,  node1:5000/tiny:latest}  all of them are one image
//	{quay.io/*,                       mirror.example/quay/*}   a mirror, tags and digests kept
//
// A name with a digest is a promise that no alias can break: what the other place has must
// have that digest. Credentials for the asked registry are not sent to another one.
type Alias struct {
	Pattern string
	Name    string
}

// aliases are tried in order; the first that matches counts, and once.
type aliases []Alias

// SetAliases replaces the aliases for names that are looked up from now on.
// InvalidArgument, and the old ones stay, if one of them is malformed.
func (s *Store) SetAliases(list []Alias) error {
	as, err := newAliases(list)
	if err != nil {
		return err
	}
	s.aliases.Store(&as)
	return nil
}

func newAliases(list []Alias) (aliases, error) {
	var as aliases
	for i, a := range list {
		checked, err := a.check()
		if err != nil {
			return nil, fmt.Errorf("image alias %d: %w", i+1, err)
		}
		as = append(as, checked)
	}
	return as, nil
}

func (a Alias) check() (Alias, error) {
	stars := strings.Count(a.Pattern, "*")
	switch {
	case stars > 1 || strings.Count(a.Name, "*") > 1:
		return a, fmt.Errorf("%q -> %q: one * at most: %w", a.Pattern, a.Name, errdefs.ErrInvalidArgument)
	case stars == 0 && strings.Contains(a.Name, "*"):
		return a, fmt.Errorf("%q -> %q: nothing in the pattern that * could stand for: %w", a.Pattern, a.Name, errdefs.ErrInvalidArgument)
	}
	if stars == 0 {
		full, err := parseReference(a.Pattern)
		if err != nil {
			return a, err
		}
		a.Pattern = full.String()
	}
	if !strings.Contains(a.Name, "*") {
		if _, err := parseReference(a.Name); err != nil {
			return a, err
		}
	}
	return a, nil
}

// source is where r is to be pulled from: r itself unless an alias matches.
func (as aliases) source(r reference) (reference, error) {
	full := r.String()
	for _, a := range as {
		stood, ok := match(a.Pattern, full)
		if !ok {
			continue
		}
		src, err := parseReference(strings.Replace(a.Name, "*", stood, 1))
		if err != nil {
			return reference{}, fmt.Errorf("alias %q of %s: %w", a.Pattern, full, err)
		}
		return src, nil
	}
	return r, nil
}

// match tells what the pattern's * stands for in s.
func match(pattern, s string) (stood string, ok bool) {
	before, after, star := strings.Cut(pattern, "*")
	if !star {
		return "", pattern == s
	}
	rest, ok := strings.CutPrefix(s, before)
	if !ok {
		return "", false
	}
	return strings.CutSuffix(rest, after)
}
