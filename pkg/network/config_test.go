// SPDX-License-Identifier: Apache-2.0

package network

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/containernetworking/cni/libcni"
)

const (
	validList   = `{"cniVersion":"1.0.0","name":"pods","plugins":[{"type":"bridge"},{"type":"portmap","capabilities":{"portMappings":true}}]}`
	validSingle = `{"cniVersion":"0.4.0","name":"single","type":"ptp"}`
)

func writeFiles(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestFirstValidConfigurationByName(t *testing.T) {
	for name, c := range map[string]struct {
		files   map[string]string
		network string
		plugins string
	}{
		"a list":                {map[string]string{"10-pods.conflist": validList}, "pods", "bridge portmap"},
		"a single plugin":       {map[string]string{"10-single.conf": validSingle}, "single", "ptp"},
		"JSON":                  {map[string]string{"10-single.json": validSingle}, "single", "ptp"},
		"by name, not by kind":  {map[string]string{"20-pods.conflist": validList, "10-single.conf": validSingle}, "single", "ptp"},
		"what is wrong is left": {map[string]string{"10-bad.conflist": "{", "20-pods.conflist": validList}, "pods", "bridge portmap"},
		"other files are left":  {map[string]string{"00-readme.txt": validSingle, "05-old.conflist.bak": validSingle, "20-pods.conflist": validList}, "pods", "bridge portmap"},
		"plugins in a folder": {map[string]string{
			"10-pods.conflist": `{"cniVersion":"1.1.0","name":"pods"}`,
			"pods/1.conf":      `{"type":"bridge"}`, "pods/2.conf": `{"type":"firewall"}`,
		}, "pods", "bridge firewall"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			writeFiles(t, dir, c.files)
			list, err := chooseConfig(dir)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.RemoveAll(dir); err != nil {
				t.Fatal(err)
			}
			// What is kept for the DEL says the same without the files.
			kept, err := libcni.NetworkConfFromBytes(list.Bytes)
			if err != nil {
				t.Fatal(err)
			}
			for _, l := range []*libcni.NetworkConfigList{list, kept} {
				var plugins []string
				for _, p := range l.Plugins {
					plugins = append(plugins, p.Network.Type)
				}
				if got := strings.Join(plugins, " "); l.Name != c.network || got != c.plugins {
					t.Errorf("network %s with %s, want %s with %s", l.Name, got, c.network, c.plugins)
				}
			}
		})
	}
}

func TestConfigurationKeepsWhatItSays(t *testing.T) {
	dir := t.TempDir()
	writeFiles(t, dir, map[string]string{"1.conflist": `{"cniVersion":"0.4.0","name":"n","disableCheck":true,"disableGC":true,"plugins":[{"type":"bridge","own":{"a":[1]}}]}`})
	list, err := chooseConfig(dir)
	if err != nil {
		t.Fatal(err)
	}
	if list.CNIVersion != "0.4.0" || !list.DisableCheck || !list.DisableGC || !strings.Contains(string(list.Plugins[0].Bytes), `"own":{"a":[1]}`) {
		t.Errorf("list = %s", list.Bytes)
	}
	if !json.Valid(list.Bytes) {
		t.Errorf("not JSON: %s", list.Bytes)
	}
}

func TestWithoutAConfigurationTheErrorSaysWhy(t *testing.T) {
	for name, c := range map[string]struct {
		files map[string]string
		says  []string
	}{
		"an empty folder": {nil, []string{"no CNI configuration in"}},
		"bad files": {map[string]string{
			"1.conflist": "{", "2.conf": `{"name":"x"}`, "3.conflist": `{"cniVersion":"9.9.9","name":"n","plugins":[{"type":"a"}]}`,
			"4.conflist": `{"name":"n","plugins":[]}`, "5.conflist": `{"name":"../../etc","plugins":[{"type":"a"}]}`,
		}, []string{"1.conflist: ", "2.conf: ", "missing 'type'", `"9.9.9"`, "4.conflist: ", `"../../etc"`}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			writeFiles(t, dir, c.files)
			for _, dir := range []string{dir, filepath.Join(dir, "absent")} {
				_, err := chooseConfig(dir)
				if !errors.Is(err, errdefs.ErrUnavailable) || !strings.Contains(err.Error(), dir) {
					t.Fatalf("error = %v, want Unavailable with the folder", err)
				}
				if filepath.Base(dir) == "absent" {
					continue
				}
				for _, s := range c.says {
					if !strings.Contains(err.Error(), s) {
						t.Errorf("error %q does not say %q", err, s)
					}
				}
			}
		})
	}
}
