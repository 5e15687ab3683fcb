// SPDX-License-Identifier: Apache-2.0

package log_test

import (
	"testing"

	"github.com/vmlet/vmlet/pkg/log"
)

func TestLoginsAreCutOutOfReferences(t *testing.T) {
	const hex = "0123456789abcdef"
	for ref, want := range map[string]string{
		"web":                               "web",
		"sha256:" + hex:                     "sha256:" + hex,
		"a.example:5000/web:1":              "a.example:5000/web:1",
		"web@sha256:" + hex:                 "web@sha256:" + hex,
		"u:p@a.example/web:1":               "a.example/web:1",
		"u:p/q@a.example/web:1":             "a.example/web:1",
		"u:p@a.example/web@sha256:" + hex:   "a.example/web@sha256:" + hex,
		"ftp://u:p@a.example/web?token=abc": "ftp://a.example/web",
		"u:p@://a":                          "://a",
		"":                                  "",
	} {
		if got := log.WithoutLogin(ref); got != want {
			t.Errorf("log.WithoutLogin(%q) = %q, want %q", ref, got, want)
		}
	}
}
