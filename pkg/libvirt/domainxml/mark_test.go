// SPDX-License-Identifier: Apache-2.0

package domainxml

import "testing"

func TestMarkSurvivesWritingAndReading(t *testing.T) {
	want := Mark{SandboxID: "0123", Owner: `a "quoted" <owner> & co`}
	text, err := want.marshal()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := ParseMark(text); err != nil || got != want {
		t.Errorf("ParseMark(%s) = %+v, %v; want %+v", text, got, err, want)
	}
}

// libvirt 9.0 returns the element of virDomainGetMetadata without its prefix.
func TestMarkIsReadAsLibvirtReturnsIt(t *testing.T) {
	got, err := ParseMark(`<sandbox id="0123" owner="node-1"/>`)
	if want := (Mark{SandboxID: "0123", Owner: "node-1"}); err != nil || got != want {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
}

func TestForeignMetadataIsNoMark(t *testing.T) {
	for _, text := range []string{
		"", "sandbox", `<sandbox owner="x"/>`, `<sandbox id="x"/>`, `<other id="x" owner="y"/>`,
	} {
		if got, err := ParseMark(text); err == nil {
			t.Errorf("ParseMark(%q) = %+v, want an error", text, got)
		}
	}
}
