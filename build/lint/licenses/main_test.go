// SPDX-License-Identifier: Apache-2.0

package main

import (
	"io"
	"strings"
	"testing"
	"testing/fstest"
)

const (
	apache = "Apache License\n   Version 2.0, January 2004"
	mit    = "Permission is hereby granted, free of charge, to any\nperson obtaining a copy"
	gpl    = "GNU GENERAL PUBLIC LICENSE\n Version 3"
	mpl    = "Mozilla Public License Version 2.0\n ... \"Secondary License\" means the GNU General Public License"
)

func TestEveryTextOfAModuleMustBeAllowed(t *testing.T) {
	for name, tc := range map[string]struct {
		files map[string]string
		err   string // "" for allowed
	}{
		"one":                           {files: map[string]string{"LICENSE": apache}},
		"two allowed ones":              {files: map[string]string{"LICENSE.md": mit, "COPYING": apache}},
		"MPL mentions the GPL":          {files: map[string]string{"LICENSE": mpl}},
		"British spelling":              {files: map[string]string{"Licence.txt": mit}},
		"refused":                       {files: map[string]string{"LICENSE": gpl}, err: "GPL is not among"},
		"refused beside an allowed one": {files: map[string]string{"LICENSE": mit, "LICENSE-GPL": gpl}, err: "GPL is not among"},
		"unknown text":                  {files: map[string]string{"LICENSE": "All rights reserved."}, err: "unknown license"},
		"a folder is no text":           {files: map[string]string{"LICENSE/mit": mit}, err: "no license text"},
		"none":                          {files: map[string]string{"README": mit}, err: "no license text"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := fstest.MapFS{}
			for file, text := range tc.files {
				dir[file] = &fstest.MapFile{Data: []byte(text)}
			}
			err := judge(dir)
			if tc.err == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tc.err) {
				t.Fatalf("error %v, want one with %q", err, tc.err)
			}
		})
	}
}

func TestClassify(t *testing.T) {
	for text, want := range map[string]string{
		apache: "Apache-2.0", mit: "MIT", gpl: "GPL", mpl: "MPL-2.0",
		mit + "\nCommons Clause License Condition":                                    "Commons-Clause",
		"Redistribution and use in source and binary forms ... Neither the name of X": "BSD-3-Clause",
		"Redistribution and use in source and binary forms":                           "BSD-2-Clause",
		"": "",
	} {
		if got, _ := classify(text); got != want {
			t.Errorf("classify(%q) = %q, want %q", text, got, want)
		}
	}
}

func TestAPatternThatFindsNoDependencyFails(t *testing.T) {
	if err := run(io.Discard, ".", []string{"errors"}); err == nil {
		t.Error("want an error for packages without a module")
	}
}
