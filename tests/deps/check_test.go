// SPDX-License-Identifier: Apache-2.0

package deps

import (
	"fmt"
	"slices"
	"strings"
)

// check returns what breaks the rules, one message each, with the reason of the rule.
func check(g graph) []string {
	var broken []string
	for pkg := range g.packages {
		if ruleOf(pkg) == nil {
			broken = append(broken, pkg+": no rule says what it may import: add a rule to tests/deps/rules_test.go, with its reason")
		}
	}
	for _, e := range g.edges {
		forbidden := forbiddenOutside
		if e.own {
			forbidden = forbiddenInside
		}
		if reason := forbidden(e); reason != "" {
			broken = append(broken, fmt.Sprintf("%s: %s must not import %s: %s", e.file, e.from, e.to, reason))
		}
	}
	slices.Sort(broken)
	return broken
}

// forbiddenInside returns why an import of another package of this module is not allowed, "" if it is.
func forbiddenInside(e edge) string {
	r := ruleOf(e.from)
	switch {
	case r == nil: // said once, for the package
		return ""
	case e.test && (e.to == e.from || slices.Contains(testOnly, e.to) || slices.Contains(testsMay[e.from], e.to)):
		return ""
	case slices.Contains(testOnly, e.to) && !matches("tests/...", e.from):
		return "it is for tests"
	case matchesAny(r.may, e.to):
		return ""
	}
	return r.reason
}

// forbiddenOutside returns why an import from outside this module is not allowed, "" if it is.
func forbiddenOutside(e edge) string {
	if e.from == "pkg/vm" && !e.test && !standard(e.to) && !slices.Contains(wordsMayImport, e.to) {
		return "the words need the standard library and " + strings.Join(wordsMayImport, ", ") + " only"
	}
	for _, f := range fences {
		if e.test && !f.tests {
			continue
		}
		if matches(f.imports, e.to) && matches(f.from, e.from) && !matchesAny(f.except, e.from) {
			return f.reason
		}
	}
	return ""
}

func ruleOf(pkg string) *rule {
	for i := range rules {
		if matches(rules[i].pkg, pkg) {
			return &rules[i]
		}
	}
	return nil
}

// standard tells a package of the standard library: the first part of its path is no domain name.
func standard(pkg string) bool {
	first, _, _ := strings.Cut(pkg, "/")
	return !strings.Contains(first, ".")
}

func matchesAny(patterns []string, pkg string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return matches(p, pkg) })
}

// matches knows exact paths, "X/..." for X and all below it, and "..." for everything.
func matches(pattern, pkg string) bool {
	prefix, below := strings.CutSuffix(pattern, "...")
	if !below {
		return pattern == pkg
	}
	return pkg == strings.TrimSuffix(prefix, "/") || strings.HasPrefix(pkg, prefix)
}
