// SPDX-License-Identifier: Apache-2.0

package arktos

import (
	"encoding/base64"
	"errors"
	"maps"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
)

const publicKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f a"

func TestVirtletsKeys(t *testing.T) {
	for name, tc := range map[string]struct{ pod, want map[string]string }{
		"none":        {nil, map[string]string{}},
		"CPUs":        {map[string]string{"VirtletVCPUCount": "3"}, map[string]string{"vmlet.io/default-vcpus": "3"}},
		"root disk":   {map[string]string{"VirtletRootVolumeSize": "4Gi"}, map[string]string{"vmlet.io/root-size": "4Gi"}},
		"ours counts": {map[string]string{"VirtletRootVolumeSize": "4Gi", "vmlet.io/root-size": "8Gi"}, map[string]string{}},
		"bus":         {map[string]string{"VirtletDiskDriver": "scsi"}, map[string]string{"vmlet.io/disk-bus": "scsi"}},
		"keys":        {map[string]string{"VirtletSSHKeys": publicKey}, map[string]string{"vmlet.io/ssh-keys": publicKey}},
		"nothing to ask": {map[string]string{
			"VirtletCloudInitUserDataOverwrite": "true", "VirtletCloudInitImageType": "NoCloud", "VirtletCPUModel": "", "kubernetes.io/target-runtime": "virtlet.cloud",
			"VirtletChown9pfsMounts": "false", "VirtletForceDHCPNetworkConfig": "false", "VirtletCloudInitUserDataSourceEncoding": "plain", "cni": "calico",
		}, map[string]string{}},
	} {
		pod := map[string][]byte{}
		for key, value := range tc.pod {
			pod[key] = []byte(value)
		}
		if got, err := settingsOf(pod); err != nil || !maps.Equal(got, tc.want) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}

func TestUserDataReachesTheSettings(t *testing.T) {
	for name, tc := range map[string]struct {
		pod  map[string][]byte
		want string
	}{
		"a map":            {map[string][]byte{userData: []byte("users: [a]\n")}, "#cloud-config\nusers: [a]\n"},
		"cloud-config":     {map[string][]byte{userData: []byte("#cloud-config\nusers: [a]\n")}, "#cloud-config\nusers: [a]\n"},
		"a script as data": {map[string][]byte{userData: []byte("#!/bin/sh\n")}, "#!/bin/sh\n"},
		"gzip":             {map[string][]byte{userData: {0x1f, 0x8b, 8}}, "\x1f\x8b\x08"},
		"no text":          {map[string][]byte{userData: {0xff, 0xfe}}, "\xff\xfe"},
		"a script":         {map[string][]byte{userDataScript: []byte("echo\n"), userData: []byte("users: []\n")}, "echo\n"},
	} {
		got, err := settingsOf(tc.pod)
		text, decodeErr := base64.StdEncoding.DecodeString(got["vmlet.io/user-data-base64"])
		if err != nil || decodeErr != nil || string(text) != tc.want {
			t.Errorf("%s: %q, %v, %v", name, text, err, decodeErr)
		}
	}
}

func TestVirtletsKeysThatAreRefused(t *testing.T) {
	const secret = "s3cr3t"
	for name, tc := range map[string]struct {
		pod  map[string]string
		want error
		says string
	}{
		"no number":            {map[string]string{"VirtletVCPUCount": "many"}, errdefs.ErrInvalidArgument, "VirtletVCPUCount"},
		"no bus":               {map[string]string{"VirtletDiskDriver": "ide"}, errdefs.ErrInvalidArgument, "VirtletDiskDriver"},
		"no key":               {map[string]string{"VirtletSSHKeys": secret}, errdefs.ErrInvalidArgument, "VirtletSSHKeys"},
		"a typo":               {map[string]string{"VirtletVCPUcount": "1"}, errdefs.ErrInvalidArgument, "nearest is VirtletVCPUCount"},
		"no user-data":         {map[string]string{userData: secret}, errdefs.ErrInvalidArgument, userData},
		"a list":               {map[string]string{userData: "[" + secret + "]"}, errdefs.ErrInvalidArgument, userData},
		"mounts by script":     {map[string]string{userDataScript: secret + "@virtlet-mount-script@"}, errdefs.ErrInvalidArgument, userDataScript},
		"user-data twice":      {map[string]string{userData: "#!" + secret, "vmlet.io/user-data": secret}, errdefs.ErrInvalidArgument, "exclude"},
		"user-data, the other": {map[string]string{userData: "#!" + secret, "vmlet.io/user-data-base64": "YQ=="}, errdefs.ErrInvalidArgument, "exclude"},
		"config drive":         {map[string]string{"VirtletCloudInitImageType": "configdrive"}, errdefs.ErrFailedPrecondition, "NoCloud"},
		"a source":             {map[string]string{"VirtletCloudInitUserDataSource": "secret/a"}, errdefs.ErrFailedPrecondition, userData},
		"a CPU":                {map[string]string{"VirtletLibvirtCPUSetting": "mode: custom"}, errdefs.ErrFailedPrecondition, "defaults.cpuMode"},
		"a UUID":               {map[string]string{"VirtletSystemUUID": "x"}, errdefs.ErrFailedPrecondition, "sandbox"},
		"9p":                   {map[string]string{"VirtletChown9pfsMounts": "true"}, errdefs.ErrFailedPrecondition, "virtiofs"},
	} {
		pod := map[string][]byte{}
		for key, value := range tc.pod {
			pod[key] = []byte(value)
		}
		_, err := settingsOf(pod)
		if !errors.Is(err, tc.want) || !strings.Contains(err.Error(), tc.says) || strings.Contains(err.Error(), secret) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, key := range virtletKeys {
		if key.refusal == "" {
			continue
		}
		if _, err := settingsOf(map[string][]byte{name: []byte("true")}); !errors.Is(err, errdefs.ErrFailedPrecondition) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
