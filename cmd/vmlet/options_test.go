// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/spf13/pflag"
)

// parse makes options of a configuration file's text and flags.
func parse(t *testing.T, yaml string, flags ...string) *options {
	t.Helper()
	file := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(file, []byte(yaml), 0o600); err != nil {
		t.Fatal(err)
	}
	var o options
	fs := pflag.NewFlagSet("vmlet", pflag.ContinueOnError)
	o.flags(fs)
	if err := fs.Parse(append([]string{"--config", file}, flags...)); err != nil {
		t.Fatal(err)
	}
	return &o
}

func TestFlagsWinOverTheFileAndTheFileOverDefaults(t *testing.T) {
	o := parse(t, "root: /srv/file\nstate: /run/file\n", "--state", "/run/flag", "--cni-bin-dirs", "/a,/b", "--metrics-address", "")
	c, err := o.load()
	if err != nil {
		t.Fatal(err)
	}
	if c.Root != "/srv/file" || c.State != "/run/flag" || strings.Join(c.CNI.BinDirs, " ") != "/a /b" {
		t.Errorf("root %s, state %s, CNI %v", c.Root, c.State, c.CNI.BinDirs)
	}
	if c.Metrics.Address != "" {
		t.Errorf("metrics are at %q, though a flag says nowhere", c.Metrics.Address)
	}
	if c.Libvirt.URI == "" {
		t.Error("a default is lost")
	}
}

func TestFlagsStillWinWhenTheFileIsReadAgain(t *testing.T) {
	o := parse(t, "log: {level: info}\n", "--log-level", "debug")
	if err := os.WriteFile(o.file, []byte("log: {level: error}\nroot: /srv/new\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := o.load()
	if err != nil || c.Log.Level != "debug" || c.Root != "/srv/new" {
		t.Errorf("level %s, root %s, %v", c.Log.Level, c.Root, err)
	}
}

func TestWhatIsWrongIsSaid(t *testing.T) {
	for name, tc := range map[string]struct {
		yaml  string
		flags []string
		want  string
	}{
		"an unknown key":         {"rooot: /x\n", nil, "config.yaml:1:1: rooot"},
		"a bad value in a flag":  {"", []string{"--log-level", "loud"}, `log.level: "loud" is not one of`},
		"a relative path":        {"", []string{"--root", "here"}, `root: "here" is not an absolute path`},
		"a file that is not one": {"", []string{"--config", "/nonexistent/config.yaml"}, "no such file"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := parse(t, tc.yaml, tc.flags...).load()
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error = %v, want %q", err, tc.want)
			}
			if strings.Contains(tc.want, ": ") && !errdefs.IsInvalidArgument(err) {
				t.Errorf("error = %v is no InvalidArgument", err)
			}
		})
	}
}

// TestEveryFlagIsLaidOver: a flag that load forgets would be read and ignored.
func TestEveryFlagIsLaidOver(t *testing.T) {
	values := map[string]string{
		"listen": "/run/other.sock", "root": "/other", "state": "/run/other", "libvirt-uri": "test:///other",
		"virtualization": "tcg", "cni-conf-dir": "/etc/other", "cni-bin-dirs": "/opt/other",
		"metrics-address": "127.0.0.1:9", "log-level": "debug", "log-format": "console",
	}
	plain, err := parse(t, "virtualization: kvm\nlog: {format: json}\n").load()
	if err != nil {
		t.Fatal(err)
	}
	parse(t, "").set.VisitAll(func(f *pflag.Flag) {
		if f.Name == "config" {
			return
		}
		value, known := values[f.Name]
		if !known {
			t.Errorf("--%s is not tested", f.Name)
			return
		}
		got, err := parse(t, "virtualization: kvm\nlog: {format: json}\n", "--"+f.Name, value).load()
		if err != nil {
			t.Errorf("--%s: %v", f.Name, err)
		}
		if keys := unreloadable(plain, got); len(keys) == 0 && f.Name != "log-level" {
			t.Errorf("--%s changes nothing", f.Name)
		}
	})
}
