// SPDX-License-Identifier: Apache-2.0

package annotations

import (
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"

	"github.com/vmlet/vmlet/pkg/vm"
)

// Keys as ssh-keygen prints them.
const (
	ed25519Key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ1pXvT1mGmM3b8Jm3bCjB1Xr0xq0G8k3y2c9w0S7a6d alice@example.org"
	ecdsaKey   = "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBA== bob"
)

func TestParse(t *testing.T) {
	for name, tc := range map[string]struct {
		in   map[string]string
		want vm.Overrides
	}{
		"none":           {nil, vm.Overrides{}},
		"others' keys":   {map[string]string{"example.org/vcpus": "x", "vmlet.example/vcpus": "y", "kubernetes.io/psp": ""}, vm.Overrides{}},
		"user-data":      {map[string]string{UserData: "#cloud-config\nruncmd: []\n"}, vm.Overrides{UserData: []byte("#cloud-config\nruncmd: []\n")}},
		"user-data, b64": {map[string]string{UserDataBase64: "AP8K"}, vm.Overrides{UserData: []byte{0, 0xff, '\n'}}},
		"keys": {
			map[string]string{SSHKeys: "# mine\n\n" + ed25519Key + "\r\n  from=\"10.0.0.0/8\",no-pty " + ecdsaKey + "\n"},
			vm.Overrides{SSHKeys: []string{ed25519Key, `from="10.0.0.0/8",no-pty ` + ecdsaKey}},
		},
		"key with a command of several words": {
			map[string]string{SSHKeys: `command="echo a b" ` + ed25519Key},
			vm.Overrides{SSHKeys: []string{`command="echo a b" ` + ed25519Key}},
		},
		"sizes": {
			map[string]string{VCPUs: "4", Memory: "1.5Gi", RootSize: "20G", DiskBus: "scsi"},
			vm.Overrides{VCPUs: 4, Memory: 3 * vm.GiB / 2, RootSize: 20e9, DiskBus: vm.BusSCSI},
		},
		"agent": {
			map[string]string{GuestAgent: "seed", AgentTimeout: "1h"},
			vm.Overrides{GuestAgent: vm.GuestAgentSeed, AgentTimeout: time.Hour},
		},
		"bios":    {map[string]string{Firmware: "bios"}, vm.Overrides{Firmware: vm.FirmwareBIOS}},
		"efi":     {map[string]string{Firmware: "efi"}, vm.Overrides{Firmware: vm.FirmwareEFI}},
		"fresh":   {map[string]string{RootDisk: "fresh"}, vm.Overrides{RootDisk: vm.RootDiskFresh}},
		"sandbox": {map[string]string{RootDisk: "sandbox"}, vm.Overrides{RootDisk: vm.RootDiskSandbox}},
		"persistent, by a claim": {
			map[string]string{RootDisk: "persistent", RootDiskClaim: "db-0.shop"},
			vm.Overrides{RootDisk: vm.RootDiskPersistent, RootDiskClaim: "db-0.shop"},
		},
		"bounds": {map[string]string{VCPUs: "255", Memory: "1"}, vm.Overrides{VCPUs: MaxVCPUs, Memory: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Parse(tc.in)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	const secret = "hunter2, and hunter2"
	for name, tc := range map[string]struct {
		in   map[string]string
		says []string
	}{
		"a misspelt key":          {map[string]string{"vmlet.io/userdata": secret}, []string{"vmlet.io/userdata", "nearest is " + UserData}},
		"another":                 {map[string]string{"vmlet.io/vcpu": "1"}, []string{"nearest is " + VCPUs}},
		"the bare prefix":         {map[string]string{"vmlet.io/": ""}, []string{"nearest is"}},
		"a key in capitals":       {map[string]string{"vmlet.io/Memory": "1Gi"}, []string{"nearest is " + Memory}},
		"user-data twice":         {map[string]string{UserData: secret, UserDataBase64: "aGk="}, []string{UserData, UserDataBase64, "exclude"}},
		"what is no base64":       {map[string]string{UserDataBase64: secret}, []string{UserDataBase64, "not base64", "with padding"}},
		"base64 without padding":  {map[string]string{UserDataBase64: "aGk"}, []string{"not base64"}},
		"vCPUs in words":          {map[string]string{VCPUs: "two"}, []string{VCPUs, `"two"`, "from 1 to 255"}},
		"no vCPUs":                {map[string]string{VCPUs: "0"}, []string{VCPUs, `"0"`}},
		"too many vCPUs":          {map[string]string{VCPUs: "256"}, []string{VCPUs, "out of range"}},
		"half a vCPU":             {map[string]string{VCPUs: "1.5"}, []string{VCPUs, `"1.5"`}},
		"memory in a wrong unit":  {map[string]string{Memory: "512MB"}, []string{Memory, `"512MB"`, "512Mi"}},
		"no memory":               {map[string]string{Memory: "0"}, []string{Memory, `"0"`}},
		"an empty size":           {map[string]string{RootSize: ""}, []string{RootSize, `""`}},
		"an unknown disk policy":  {map[string]string{RootDisk: "keep"}, []string{RootDisk, `"keep"`, "fresh, sandbox or persistent"}},
		"a claim alone":           {map[string]string{RootDiskClaim: "db"}, []string{RootDiskClaim, "persistent"}},
		"a claim on a fresh disk": {map[string]string{RootDisk: "fresh", RootDiskClaim: "db"}, []string{RootDiskClaim, "persistent"}},
		"a claim with a slash":    {map[string]string{RootDisk: "persistent", RootDiskClaim: "a/b"}, []string{RootDiskClaim, `"a/b"`, "DNS-1123"}},
		"a claim in capitals":     {map[string]string{RootDisk: "persistent", RootDiskClaim: "DB"}, []string{RootDiskClaim}},
		"an empty claim":          {map[string]string{RootDisk: "persistent", RootDiskClaim: ""}, []string{RootDiskClaim}},
		"a claim that climbs":     {map[string]string{RootDisk: "persistent", RootDiskClaim: ".."}, []string{RootDiskClaim}},
		"a claim that is long":    {map[string]string{RootDisk: "persistent", RootDiskClaim: strings.Repeat("a", 254)}, []string{RootDiskClaim}},
		"an unknown bus":          {map[string]string{DiskBus: "ide"}, []string{DiskBus, `"ide"`, "virtio or scsi"}},
		"an unknown firmware":     {map[string]string{Firmware: "uefi"}, []string{Firmware, `"uefi"`, "bios or efi"}},
		"no firmware":             {map[string]string{Firmware: ""}, []string{Firmware}},
		"an unknown agent":        {map[string]string{GuestAgent: "ssh"}, []string{GuestAgent, `"ssh"`, "vmlet, seed or qga"}},
		"no agent":                {map[string]string{GuestAgent: ""}, []string{GuestAgent}},
		"an agent timeout of 0":   {map[string]string{AgentTimeout: "0s"}, []string{AgentTimeout, "out of range"}},
		"a timeout above an hour": {map[string]string{AgentTimeout: "61m"}, []string{AgentTimeout, "at most 1h"}},
		"a timeout without unit":  {map[string]string{AgentTimeout: "90"}, []string{AgentTimeout, "no duration"}},
		"a key type without blob": {map[string]string{SSHKeys: "ssh-rsa"}, []string{SSHKeys, "line 1"}},
		"a blob of another type":  {map[string]string{SSHKeys: ed25519Key + "\nssh-rsa " + strings.Fields(ed25519Key)[1]}, []string{"line 2"}},
		"a private key":           {map[string]string{SSHKeys: "-----BEGIN OPENSSH PRIVATE KEY-----\n" + secret}, []string{SSHKeys, "line 1"}},
		"a length beyond the end": {map[string]string{SSHKeys: "ssh-rsa /////wAA"}, []string{"line 1"}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Parse(tc.in)
			if !errdefs.IsInvalidArgument(err) {
				t.Fatalf("got %+v, %v", got, err)
			}
			for _, s := range tc.says {
				if !strings.Contains(err.Error(), s) {
					t.Errorf("%q does not say %q", err, s)
				}
			}
			if strings.Contains(err.Error(), "hunter2") {
				t.Errorf("%q tells a secret", err)
			}
		})
	}
}

func TestTheSameFaultIsToldEachTime(t *testing.T) {
	in := map[string]string{VCPUs: "x", Memory: "x", DiskBus: "x", "vmlet.io/zzz": ""}
	_, first := Parse(in)
	for range 50 {
		if _, err := Parse(in); err.Error() != first.Error() {
			t.Fatalf("%v, then %v", first, err)
		}
	}
}

func TestLongValuesDoNotFillTheError(t *testing.T) {
	for _, in := range []map[string]string{
		{VCPUs: strings.Repeat("9", 1<<16)},
		{Prefix + strings.Repeat("é", 1<<16): ""},
	} {
		if _, err := Parse(in); err == nil || len(err.Error()) > 400 {
			t.Errorf("the error has %d bytes", len(err.Error()))
		}
	}
}

func TestKeysAreDocumentedAndUnderThePrefix(t *testing.T) {
	seen := map[string]bool{}
	for _, k := range Keys() {
		if !strings.HasPrefix(k.Name, Prefix) || k.Values == "" || k.Doc == "" || seen[k.Name] {
			t.Errorf("%+v", k)
		}
		seen[k.Name] = true
	}
}

func TestParseBytes(t *testing.T) {
	for in, want := range map[string]int64{
		"1": 1, "1000": 1000, "1k": 1000, "1Ki": 1024, "512Mi": 512 << 20, "1.5Gi": 3 << 29, ".5Ki": 512,
		"2e9": 2e9, "2E9": 2e9, "1E": 1e18, "7Ei": 7 << 60, "1.25e2": 125, "100e-2": 1, "9223372036854775807": 1<<63 - 1,
	} {
		if got, err := parseBytes(in); err != nil || got != want {
			t.Errorf("%q: %d, %v, want %d", in, got, err, want)
		}
	}
	for _, in := range []string{
		"", "Gi", "0", "-1", "+1", "1gi", "1 Gi", " 1", "1e3Ki", "0x10", "1_000", "1e", "1e+", "1m", "1.0000000001Ki", "1e-1",
		"8Ei", "9223372036854775808", "1e99", "1..2", ".", "1.", "1Gi\n", "٣",
	} {
		if got, err := parseBytes(in); err == nil {
			t.Errorf("%q: %d, want an error", in, got)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(VCPUs, "4")
	f.Add(Memory, "1.5Gi")
	f.Add(RootSize, "2e9")
	f.Add(RootDiskClaim, "db-0")
	f.Add(SSHKeys, ed25519Key)
	f.Add(UserDataBase64, "AP8K")
	f.Add("vmlet.io/userdata", "x")
	f.Fuzz(func(t *testing.T, key, value string) {
		o, err := Parse(map[string]string{key: value})
		if err != nil {
			if !errdefs.IsInvalidArgument(err) || len(err.Error()) > 1024 {
				t.Errorf("%q: %v", key, err)
			}
			if diff := cmp.Diff(vm.Overrides{}, o); diff != "" {
				t.Errorf("an error and overrides:\n%s", diff)
			}
			return
		}
		if o.VCPUs < 0 || o.VCPUs > MaxVCPUs || o.Memory < 0 || o.RootSize < 0 {
			t.Errorf("%q=%q gives %+v", key, value, o)
		}
		if key == UserData && string(o.UserData) != value {
			t.Error("user-data was changed")
		}
	})
}
