// SPDX-License-Identifier: Apache-2.0

package image

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	oci "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/vmlet/vmlet/pkg/vm"
)

// diskTypePrefix begins the media types of layers that are a disk themselves.
const diskTypePrefix = "application/vnd.vmlet.disk."

// compression is how a layer is packed.
type compression string

const (
	uncompressed compression = ""
	gzipped      compression = "gzip"
	zstandard    compression = "zstd"
	// sniffed: told by the first bytes. Builders label layers wrongly.
	sniffed compression = "sniffed"
)

// diskTypes are the layers that are a disk.
var diskTypes = map[types.MediaType]diskType{
	diskTypePrefix + "qcow2.v1":      {vm.FormatQCOW2, uncompressed},
	diskTypePrefix + "qcow2.v1+gzip": {vm.FormatQCOW2, gzipped},
	diskTypePrefix + "qcow2.v1+zstd": {vm.FormatQCOW2, zstandard},
	diskTypePrefix + "raw.v1":        {vm.FormatRaw, uncompressed},
	diskTypePrefix + "raw.v1+gzip":   {vm.FormatRaw, gzipped},
	diskTypePrefix + "raw.v1+zstd":   {vm.FormatRaw, zstandard},
}

type diskType struct {
	format  vm.DiskFormat
	packing compression
}

// fileSystemTypes are the layers of container images.
var fileSystemTypes = []types.MediaType{
	types.OCILayer, types.OCILayerZStd, types.OCIUncompressedLayer,
	types.DockerLayer, types.DockerUncompressedLayer,
}

// plan is what has to be fetched to get a disk.
type plan struct {
	// disk is set if the one layer is the disk itself; else the disk is a file in layers.
	disk   *diskType
	layers []oci.Descriptor // lowest first
	total  int64            // bytes of all layers, as they are sent
	// manifests are the digests of the documents that led here, the first one's first.
	manifests []string
}

// key says what the disk is made of: two plans of one key give the same disk.
func (p *plan) key() string {
	words := []string{"files"}
	if p.disk != nil {
		words = []string{string(p.disk.format), string(p.disk.packing)}
	}
	for _, l := range p.layers {
		words = append(words, l.Digest.String())
	}
	return strings.Join(words, " ")
}

// document is a manifest or an index.
type document struct {
	Config    *oci.Descriptor  `json:"config"`
	Layers    []oci.Descriptor `json:"layers"`
	Manifests []oci.Descriptor `json:"manifests"`
}

// parseDocument goes by the content: the media type in the answer's header is not covered
// by the digest. A document that is both an index and a manifest means different things
// to different readers, and is refused (CVE-2021-41190).
func parseDocument(body []byte) (document, error) {
	var d document
	if err := json.Unmarshal(body, &d); err != nil {
		return d, refused("the manifest is no JSON (%v)", err)
	}
	isIndex, isManifest := d.Manifests != nil, d.Layers != nil || d.Config != nil
	if isIndex == isManifest {
		return d, refused("the registry's answer is not a manifest or index of OCI or docker")
	}
	return d, nil
}

// plan reads a document, through an index the manifest for this architecture, and decides
// what to fetch. NotFound: there is none for this architecture.
func (s *session) plan(ctx context.Context, body []byte, digest, arch string) (plan, error) {
	p := plan{manifests: []string{digest}}
	doc, err := parseDocument(body)
	if err != nil {
		return plan{}, err
	}
	if doc.Manifests != nil {
		chosen, err := choose(doc.Manifests, arch)
		if err != nil {
			return plan{}, err
		}
		if body, digest, err = s.manifest(ctx, chosen.Digest.String()); err != nil {
			return plan{}, fmt.Errorf("manifest for linux/%s: %w", arch, err)
		}
		p.manifests = append(p.manifests, digest)
		if doc, err = parseDocument(body); err != nil {
			return plan{}, err
		}
		if doc.Manifests != nil {
			return plan{}, refused("an index within an index")
		}
	}
	if err := p.take(doc.Layers); err != nil {
		return plan{}, err
	}
	return p, s.checkConfig(ctx, doc.Config, arch)
}

// take decides whether the layers are a disk or a file system that holds one.
func (p *plan) take(layers []oci.Descriptor) error {
	p.layers = layers
	for _, l := range layers {
		if l.Size < 0 {
			return refused("layer %s of %d bytes", l.Digest, l.Size)
		}
		p.total += l.Size
		switch disk, isDisk := diskTypes[l.MediaType]; {
		case isDisk && len(layers) == 1:
			p.disk = &disk
		case isDisk:
			return refused("a layer is the disk itself, so it must be the only one of the %d", len(layers))
		case strings.HasPrefix(string(l.MediaType), diskTypePrefix):
			return refused("layer media type %s; qcow2 and raw disks are known, with +gzip, +zstd or nothing", l.MediaType)
		case !slices.Contains(fileSystemTypes, l.MediaType):
			return refused("layer media type %q: this is neither a VM disk nor a container image that could hold one", l.MediaType)
		}
	}
	if len(layers) == 0 {
		return refused("the image has no layers")
	}
	return nil
}

// choose finds the manifest for an architecture in an index.
func choose(manifests []oci.Descriptor, arch string) (oci.Descriptor, error) {
	var offered []string
	for _, m := range manifests {
		if m.Platform == nil {
			continue
		}
		if m.Platform.Architecture == arch && (m.Platform.OS == "linux" || m.Platform.OS == "") {
			return m, nil
		}
		// What builders attach to an image has the platform unknown/unknown.
		if m.Platform.Architecture != "unknown" {
			offered = append(offered, m.Platform.String())
		}
	}
	list := "nothing"
	if len(offered) > 0 {
		list = strings.Join(offered, ", ")
	}
	return oci.Descriptor{}, fmt.Errorf("no image for linux/%s, the index has %s: %w", arch, list, errdefs.ErrNotFound)
}

// checkConfig refuses an image that is labelled for another architecture. Artifacts have
// no label: their config is empty or of a kind of its own.
func (s *session) checkConfig(ctx context.Context, config *oci.Descriptor, arch string) error {
	if config == nil || !config.MediaType.IsConfig() {
		return nil
	}
	body, err := s.smallBlob(ctx, config.Digest)
	if err != nil {
		return fmt.Errorf("config %s: %w", config.Digest, err)
	}
	var label struct {
		Architecture string `json:"architecture"`
	}
	if err := json.Unmarshal(body, &label); err != nil {
		return refused("the image's config is no JSON (%v)", err)
	}
	if label.Architecture != "" && label.Architecture != arch {
		return refused("the image is for %s, this node is %s", label.Architecture, arch)
	}
	return nil
}
