// SPDX-License-Identifier: Apache-2.0

package arktos

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"sigs.k8s.io/yaml"

	"github.com/vmlet/vmlet/pkg/annotations"
	"github.com/vmlet/vmlet/pkg/nearest"
)

// virtletPrefix is what Virtlet's annotations begin with, which the node agent makes of a VM's spec and lets users write.
const virtletPrefix = "Virtlet"

// Virtlet's annotations, where they are named more than once.
const (
	userData       = "VirtletCloudInitUserData"
	userDataScript = "VirtletCloudInitUserDataScript"
)

// virtletKey is one annotation of Virtlet's: what it becomes, or why it is refused.
type virtletKey struct {
	// becomes is the key of ours, "" for one that asks for nothing here.
	becomes string
	// value makes ours of the annotation's; nil takes it as it is.
	value func(value []byte) (string, error)
	// refusal says why a node cannot do it, and what to do instead. harmless are values that ask for nothing.
	refusal  string
	harmless []string
}

// virtletKeys are all of them. docs/reference/arktos.md repeats the table row by row.
var virtletKeys = map[string]virtletKey{
	"VirtletVCPUCount":      {becomes: annotations.VCPUsDefault},
	"VirtletRootVolumeSize": {becomes: annotations.RootSize},
	"VirtletDiskDriver":     {becomes: annotations.DiskBus},
	"VirtletSSHKeys":        {becomes: annotations.SSHKeys},
	userData:                {becomes: annotations.UserDataBase64, value: cloudConfig},
	userDataScript:          {becomes: annotations.UserDataBase64, value: script},

	"VirtletCloudInitUserDataOverwrite": {}, // there is nothing to merge it with: no data comes from elsewhere
	"VirtletCloudInitImageType":         {refusal: "seeds are NoCloud images; leave it out", harmless: []string{"nocloud"}},
	"VirtletCPUModel":                   {refusal: "CPUs are as the node's configuration says (defaults.cpuMode)"},
	"VirtletLibvirtCPUSetting":          {refusal: "CPUs are as the node's configuration says (defaults.cpuMode, defaults.cpuModel)"},
	"VirtletCloudInitMetaData":          {refusal: "meta-data is the node's; put what a guest is to know into user-data"},
	"VirtletCloudInitUserDataSource":    {refusal: "a node reads no ConfigMaps and Secrets of the API; put it into " + userData},
	"VirtletCloudInitUserDataSourceKey": {refusal: "a node reads no ConfigMaps and Secrets of the API; put it into " + userDataScript},
	"VirtletCloudInitUserDataSourceEncoding": {
		refusal: "a node reads no ConfigMaps and Secrets of the API; leave it out", harmless: []string{"plain"},
	},
	"VirtletSSHKeySource":           {refusal: "a node reads no ConfigMaps and Secrets of the API; put the keys into VirtletSSHKeys"},
	"VirtletFilesFromDataSource":    {refusal: "a node reads no ConfigMaps and Secrets of the API; mount them as volumes"},
	"VirtletChown9pfsMounts":        {refusal: "volumes are shared by virtiofs, and their owners stay; leave it out", harmless: []string{"false"}},
	"VirtletSystemUUID":             {refusal: "a VM's UUID is the ID of its sandbox; leave it out"},
	"VirtletForceDHCPNetworkConfig": {refusal: "no DHCP server answers in a pod's network: guests are told their addresses; leave it out", harmless: []string{"false"}},
}

// settingsOf makes settings of the VM, by the keys of package annotations, of what a pod says in Virtlet's. A key of ours
// counts where both say something, but for user-data, of which there can be one. What a node cannot do is FailedPrecondition;
// a key that Virtlet never had, and what is no text, are InvalidArgument. Errors never hold user-data.
func settingsOf(pod map[string][]byte) (map[string]string, error) {
	settings := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(pod)) {
		if !strings.HasPrefix(name, virtletPrefix) {
			continue
		}
		key, known := virtletKeys[name]
		if !known {
			best, _ := nearest.Word(name, slices.Sorted(maps.Keys(virtletKeys)))
			return nil, invalid("annotation "+name, "it is not known, the nearest is %s", best)
		}
		if name == userData && len(pod[userDataScript]) > 0 || len(pod[name]) == 0 {
			continue // a script takes the place of other user-data
		}
		if key.refusal != "" && !slices.Contains(key.harmless, strings.ToLower(string(pod[name]))) {
			return nil, refused("annotation "+name, key.refusal)
		}
		if _, said := pod[key.becomes]; key.becomes == "" || said && key.becomes != annotations.UserDataBase64 {
			continue
		}
		value, err := key.convert(pod[name])
		if err != nil {
			return nil, fmt.Errorf("annotation %s: %w: %w", name, err, errdefs.ErrInvalidArgument)
		}
		if _, err := annotations.Parse(map[string]string{key.becomes: value}); err != nil {
			return nil, fmt.Errorf("annotation %s stands for this: %w", name, err)
		}
		settings[key.becomes] = value
	}
	_, text := pod[annotations.UserData]
	_, encoded := pod[annotations.UserDataBase64]
	if _, both := settings[annotations.UserDataBase64]; both && (text || encoded) {
		return nil, invalid("annotation "+userData, "it and %s exclude each other", annotations.UserData)
	}
	return settings, nil
}

func (k virtletKey) convert(value []byte) (string, error) {
	if k.value != nil {
		return k.value(value)
	}
	return string(value), nil
}

// formats are how user-data begins that cloud-init takes as it is (cloudinit.readthedocs.io, "User data formats"), compressed
// data included.
var formats = []string{"#!", "#cloud-config", "#cloud-boothook", "#include", "#part-handler", "#upstart-job", "## template:", "Content-Type:", "From ", "MIME-Version:", "\x1f\x8b"}

// cloudConfig is user-data as Virtlet has it: a YAML map, which becomes cloud-config. What says itself what it is, and what is
// no text, is passed on as it is.
func cloudConfig(value []byte) (string, error) {
	own := slices.ContainsFunc(formats, func(f string) bool { return bytes.HasPrefix(value, []byte(f)) })
	if text, _ := split(map[string][]byte{"": value}); !own && text != nil {
		var m map[string]any
		if yaml.Unmarshal(value, &m) != nil || m == nil {
			return "", errors.New("it is no YAML map, and does not begin as user-data does, with #cloud-config or a script's first line") // without the value
		}
		value = append([]byte("#cloud-config\n"), value...)
	}
	return base64.StdEncoding.EncodeToString(value), nil
}

// mountScript is what Virtlet would put a script of its own in the place of.
const mountScript = "@virtlet-mount-script@"

func script(value []byte) (string, error) {
	if bytes.Contains(value, []byte(mountScript)) {
		return "", errors.New("volumes are mounted by vmlet-agent, not by a script; leave " + mountScript + " out")
	}
	return base64.StdEncoding.EncodeToString(value), nil
}
