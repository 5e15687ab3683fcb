// SPDX-License-Identifier: Apache-2.0

package main

import "strings"

// kinds maps a sentence that only one license has to that license's SPDX identifier. Order matters: a text is of the
// first kind whose sentence it holds.
var kinds = []struct {
	sentence string
	spdx     string
	allowed  bool
}{
	// Before the GNU licenses, which it mentions.
	{"mozilla public license version 2.0", "MPL-2.0", true},
	{"mozilla public license, version 2.0", "MPL-2.0", true},
	{"gnu affero general public license", "AGPL", false},
	{"gnu lesser general public license", "LGPL", false},
	{"gnu library general public license", "LGPL", false},
	{"gnu general public license", "GPL", false},
	{"server side public license", "SSPL", false},
	{"business source license", "BUSL", false},
	{"commons clause", "Commons-Clause", false},
	{"apache license version 2.0", "Apache-2.0", true},
	{"licensed under the apache license, version 2.0", "Apache-2.0", true},
	{"neither the name of", "BSD-3-Clause", true},
	{"redistribution and use in source and binary forms", "BSD-2-Clause", true},
	{"permission is hereby granted, free of charge, to any person obtaining a copy", "MIT", true},
	{"permission to use, copy, modify, and/or distribute this software", "ISC", true},
	{"permission to use, copy, modify, and distribute this software", "ISC", true},
	{"this is free and unencumbered software released into the public domain", "Unlicense", true},
	{"cc0 1.0 universal", "CC0-1.0", true},
}

// classify returns the SPDX identifier of a license text and whether vmlet may ship code under it; "" if the text is
// no license that we know.
func classify(text string) (spdx string, allowed bool) {
	text = strings.ToLower(strings.Join(strings.Fields(text), " "))
	for _, k := range kinds {
		if strings.Contains(text, k.sentence) {
			return k.spdx, k.allowed
		}
	}
	return "", false
}
