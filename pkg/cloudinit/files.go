// SPDX-License-Identifier: Apache-2.0

package cloudinit

import (
	"bytes"
	_ "embed"
	"fmt"

	"github.com/containerd/errdefs"
	"go.yaml.in/yaml/v3"

	"github.com/vmlet/vmlet/pkg/vm"
)

// Files are the files of a NoCloud seed.
type Files struct {
	MetaData      []byte
	UserData      []byte // secret
	NetworkConfig []byte
	// VendorData is a boothook, if there is something to do for one: to install Agent, the
	// binary, or to do what an agent would. Secret.
	VendorData []byte
	Agent      []byte
}

// installAgent is a script for cloud-init's boothook handler, which runs it at each boot, as
// early as it has a seed. Vendor-data is the vendor's, which leaves user-data to users.
//
//go:embed install-agent.sh
var installAgent []byte

const bootHook = "#cloud-boothook\n"

// noUserData is what a guest reads that was given no user-data: NoCloud takes a file
// system without the file for no seed at all.
const noUserData = "#cloud-config\n{}\n"

// Build writes the seed's files; equal seeds give equal bytes. A seed that cloud-init
// would misread is refused with InvalidArgument.
func Build(s vm.Seed) (Files, error) {
	if s.InstanceID == "" {
		return Files{}, fmt.Errorf("cloud-init seed: no instance ID: %w", errdefs.ErrInvalidArgument)
	}
	meta, err := marshal(metaData{
		InstanceID:    text(s.InstanceID),
		LocalHostname: text(s.Hostname),
		PublicKeys:    texts(s.SSHKeys),
	})
	if err != nil {
		return Files{}, fmt.Errorf("cloud-init meta-data: %w", err)
	}
	config, err := newNetworkConfig(s.NICs, s.DNS)
	if err != nil {
		return Files{}, fmt.Errorf("cloud-init network-config: %w", err)
	}
	network, err := marshal(config)
	if err != nil {
		return Files{}, fmt.Errorf("cloud-init network-config: %w", err)
	}
	user := bytes.Clone(s.UserData)
	if len(user) == 0 {
		user = []byte(noUserData)
	}
	files := Files{MetaData: meta, UserData: user, NetworkConfig: network}
	switch {
	case len(s.Agent) > 0:
		files.VendorData, files.Agent = append([]byte(bootHook), installAgent...), s.Agent
	case len(s.Files)+len(s.Shares)+len(s.Sysctls) > 0:
		if files.VendorData, err = mountHook(s); err != nil {
			return Files{}, fmt.Errorf("cloud-init vendor-data: %w", err)
		}
	}
	return files, nil
}

// metaData is the part of EC2's metadata that NoCloud knows.
type metaData struct {
	InstanceID    text   `yaml:"instance-id"`
	LocalHostname text   `yaml:"local-hostname,omitempty"`
	PublicKeys    []text `yaml:"public-keys,omitempty"`
}

// text is a string that is written in quotes whatever it holds. cloud-init reads YAML
// 1.1, where the bare MAC address 52:54:00:12:34:56 is a number of base 60 and a host
// named "no" is false.
type text string

// MarshalYAML implements yaml.Marshaler.
func (t text) MarshalYAML() (any, error) {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: string(t), Style: yaml.DoubleQuotedStyle}, nil
}

func texts(in []string) []text {
	var out []text
	for _, s := range in {
		out = append(out, text(s))
	}
	return out
}

func marshal(v any) ([]byte, error) {
	var out bytes.Buffer
	enc := yaml.NewEncoder(&out)
	enc.SetIndent(2)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	if err := enc.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}
