// SPDX-License-Identifier: Apache-2.0

package cloudinit

import (
	"bytes"
	"crypto/rand"
	"io"
	"os"
	"testing"

	"github.com/kdomanski/iso9660"
)

func TestISOHoldsTheFilesUnderTheirNamesAndLabel(t *testing.T) {
	big := make([]byte, 3*isoSector+17)
	if _, err := rand.Read(big); err != nil {
		t.Fatal(err)
	}
	for name, files := range map[string]Files{
		"text":         {MetaData: []byte("instance-id: i\n"), UserData: []byte("#!/bin/sh\n"), NetworkConfig: []byte("version: 2\n")},
		"many sectors": {MetaData: big, UserData: big[1:], NetworkConfig: big[:isoSector]},
		"empty ones":   {MetaData: []byte("instance-id: i\n")},
		"an agent":     {MetaData: []byte("instance-id: i\n"), VendorData: []byte("#cloud-boothook\n"), Agent: big},
	} {
		t.Run(name, func(t *testing.T) {
			data, err := ISO(files)
			if err != nil {
				t.Fatal(err)
			}
			if len(data)%isoSector != 0 || len(data) < 68<<10 {
				t.Errorf("%d bytes", len(data))
			}
			label, got := read(t, data)
			if label != "cidata" {
				t.Errorf("label %q", label)
			}
			want := map[string][]byte{
				"meta-data": files.MetaData, "user-data": files.UserData, "network-config": files.NetworkConfig,
			}
			if len(files.Agent) > 0 {
				want["vendor-data"], want["vmlet-agent"] = files.VendorData, files.Agent
			}
			for file, content := range want {
				if !bytes.Equal(got[file], content) {
					t.Errorf("%s differs", file)
				}
			}
			if len(got) != len(want) {
				t.Errorf("%d files, want %d", len(got), len(want))
			}
		})
	}
}

func read(t *testing.T, data []byte) (label string, files map[string][]byte) {
	t.Helper()
	image, err := iso9660.OpenImage(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	if label, err = image.Label(); err != nil {
		t.Fatal(err)
	}
	root, err := image.RootDir()
	if err != nil {
		t.Fatal(err)
	}
	children, err := root.GetChildren()
	if err != nil {
		t.Fatal(err)
	}
	files = map[string][]byte{}
	for _, child := range children {
		if files[child.Name()], err = io.ReadAll(child.Reader()); err != nil {
			t.Fatal(err)
		}
	}
	return label, files
}

func TestEqualFilesGiveEqualBytesAtAnyTime(t *testing.T) {
	data, err := ISO(Files{MetaData: []byte("m"), UserData: []byte("u"), NetworkConfig: []byte("n")})
	if err != nil {
		t.Fatal(err)
	}
	// The volume's dates are the one thing that depends on when the image is made.
	if got := string(data[isoDates : isoDates+len(isoNoDate)]); got != isoNoDate {
		t.Errorf("the volume was created at %q", got)
	}
	again, err := ISO(Files{MetaData: []byte("m"), UserData: []byte("u"), NetworkConfig: []byte("n")})
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(data, again) {
		t.Error("two calls gave different bytes")
	}
}

func TestISOLeavesNothingBehind(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	if _, err := ISO(Files{UserData: []byte("secret")}); err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(left) != 0 {
		t.Errorf("%v is left in the folder for temporary files", left)
	}
}

func BenchmarkISO(b *testing.B) {
	files, err := Build(seeds["pod"])
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := ISO(files); err != nil {
			b.Fatal(err)
		}
	}
}
