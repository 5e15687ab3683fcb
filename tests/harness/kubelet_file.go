// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"os"
	"path/filepath"
	"strings"
)

// ApplyFile gives kubelet a manifest of docs/kubelet, NAME.yaml, with the tiny guest's image in place of
// registry.example/tiny:1. replace are pairs of what else is replaced, and by what.
func (k *Kubelet) ApplyFile(name string, replace ...string) {
	k.t.Helper()
	text, err := os.ReadFile(filepath.Join(Repo(), "docs", "kubelet", name+".yaml"))
	if err != nil {
		k.t.Fatal(err)
	}
	pairs := append([]string{"registry.example/tiny:1", TinyImage()}, replace...)
	k.Apply(name, strings.NewReplacer(pairs...).Replace(string(text)))
}
