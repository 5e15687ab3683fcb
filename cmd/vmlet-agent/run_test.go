// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"testing"
)

func TestTheFolderOfABootIsKeptAndThoseOfOthersAreRemoved(t *testing.T) {
	dir := t.TempDir()
	for i, boot := range []string{"one", "two", "two"} {
		got, err := bootDir(dir, boot)
		if err != nil {
			t.Fatal(err)
		}
		mark := filepath.Join(got, "mark")
		if _, err := os.Stat(mark); (err == nil) != (i == 2) {
			t.Errorf("%d, %s: %v", i, boot, err)
		}
		if err := os.WriteFile(mark, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 || entries[0].Name() != "two" {
		t.Errorf("%v, %v", entries, err)
	}
}
