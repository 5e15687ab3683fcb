// SPDX-License-Identifier: Apache-2.0

package domainxml

import (
	"encoding/xml"
	"errors"
	"fmt"
)

// Namespace is the XML namespace of the mark in a domain's <metadata>. It is a name, not
// an address, and never changes: domains of older releases carry it.
const Namespace = "https://vmlet.dev/xmlns/domain/1.0"

// Mark says whose a domain is. libvirt stores it and gives it back unread, also for
// other clients: it is the only thing that ownership is judged by.
type Mark struct {
	SandboxID string
	Owner     string
}

// element is the mark as XML. libvirt demands a namespace prefix on elements under
// <metadata>, which encoding/xml cannot write by itself; hence prefix and xmlns are
// spelled out for writing, and the namespace is matched for reading.
type element struct {
	XMLName xml.Name `xml:"vmlet:sandbox"`
	Xmlns   string   `xml:"xmlns:vmlet,attr"`
	ID      string   `xml:"id,attr"`
	Owner   string   `xml:"owner,attr"`
}

func (k Mark) marshal() (string, error) {
	out, err := xml.Marshal(element{Xmlns: Namespace, ID: k.SandboxID, Owner: k.Owner})
	if err != nil {
		return "", fmt.Errorf("write the owner's mark: %w", err)
	}
	return string(out), nil
}

// ParseMark reads a mark from the metadata element that libvirt returns for Namespace,
// with or without the namespace's declaration.
func ParseMark(text string) (Mark, error) {
	var e struct {
		XMLName xml.Name `xml:"sandbox"`
		ID      string   `xml:"id,attr"`
		Owner   string   `xml:"owner,attr"`
	}
	if err := xml.Unmarshal([]byte(text), &e); err != nil {
		return Mark{}, fmt.Errorf("read the owner's mark: %w", err)
	}
	if e.ID == "" || e.Owner == "" {
		return Mark{}, errors.New("read the owner's mark: it names no sandbox and owner")
	}
	return Mark{SandboxID: e.ID, Owner: e.Owner}, nil
}
