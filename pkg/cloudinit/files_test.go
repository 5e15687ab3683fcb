// SPDX-License-Identifier: Apache-2.0

package cloudinit

import (
	"bytes"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/vmlet/vmlet/pkg/vm"
)

var update = flag.Bool("update", false, "write the golden files anew")

func address(prefix, gateway string) vm.NICAddress {
	a := vm.NICAddress{Prefix: netip.MustParsePrefix(prefix)}
	if gateway != "" {
		a.Gateway = netip.MustParseAddr(gateway)
	}
	return a
}

func to(prefix, via string) vm.Route {
	r := vm.Route{To: netip.MustParsePrefix(prefix)}
	if via != "" {
		r.Via = netip.MustParseAddr(via)
	}
	return r
}

// seeds are the cases with golden files, testdata/NAME.*.
var seeds = map[string]vm.Seed{
	"minimal": {InstanceID: "iid-1"},
	"pod": {
		InstanceID: "2f0c7a4e5d3b4f0a9c1e8b7a6d5c4b3a",
		Hostname:   "web-0",
		SSHKeys: []string{
			"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGyKbW9fPqUeUzRrS1nBWzVZqO5m0pQ1d2b3Q4r5s6t7 alice@example.org",
			`ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQ` + strings.Repeat("x", 340) + ` "quoted" # comment`,
		},
		NICs: []vm.NIC{{
			Name: "eth0", MAC: "52:54:00:12:34:00", MTU: 1450,
			IPs:    []vm.NICAddress{address("10.88.0.7/16", "10.88.0.1"), address("fd00:88::7/64", "fd00:88::1")},
			Routes: []vm.Route{to("0.0.0.0/0", "10.88.0.1"), to("::/0", "fd00:88::1")},
		}},
		DNS: vm.DNSConfig{
			Servers:  []string{"10.96.0.10", "fd00:96::a"},
			Searches: []string{"default.svc.cluster.local", "svc.cluster.local"},
			Options:  []string{"ndots:5"},
		},
		UserData: []byte("#!/bin/sh\necho \"$0\" > /run/ran\n"),
	},
	"host-routes": {
		InstanceID: "iid-1",
		Hostname:   "no", // false in YAML 1.1
		NICs: []vm.NIC{{
			Name: "eth0", MAC: "0A:58:0A:01:02:03",
			IPs: []vm.NICAddress{address("10.0.1.5/32", "169.254.1.1"), address("fd00::5/128", "fe80::1")},
			Routes: []vm.Route{
				to("169.254.1.1/32", ""),
				to("0.0.0.0/0", "169.254.1.1"),
				to("::/0", "fe80::1"),
				to("fd01::/16", ""),
			},
		}},
	},
	"two-nics": {
		InstanceID: "iid-1",
		Hostname:   "router",
		NICs: []vm.NIC{
			{
				Name: "eth0", MAC: "0a:58:0a:01:02:03", MTU: 1500,
				IPs:    []vm.NICAddress{address("10.1.2.3/24", "10.1.2.1")},
				Routes: []vm.Route{to("0.0.0.0/0", "10.1.2.1")},
			},
			{
				Name: "net1", MAC: "0a:58:0a:01:02:04", MTU: 9000,
				IPs: []vm.NICAddress{address("192.168.7.9/24", "")},
				Routes: []vm.Route{{
					To: netip.MustParsePrefix("172.16.5.1/12"), Via: netip.MustParseAddr("192.168.7.1"), MTU: 1400, Metric: 50,
				}},
			},
		},
		DNS: vm.DNSConfig{Servers: []string{"10.1.2.1"}},
	},
	"mounts": {
		InstanceID: "iid-1",
		Files: []vm.SeedFile{
			{Path: "/etc/hosts", Mode: 0o644, Content: []byte("127.0.0.1 localhost\n")},
			{Path: "/it's $(here)", Mode: 0o100600, UID: 7, GID: 8, Content: bytes.Repeat([]byte("secret"), 20), ReadOnly: true},
			{Path: "/dev/termination-log", Mode: 0o666},
		},
		Shares: []vm.ShareMount{
			{Source: "0-data", GuestPath: "/data"},
			{Source: "1-file", GuestPath: "/etc/file", ReadOnly: true, RecursiveReadOnly: true},
		},
		Sysctls: map[string]string{"net.ipv4.ip_forward": "1", "kernel.msgmax": "it's"},
	},
	"no-addresses": {
		InstanceID: "iid-1",
		NICs:       []vm.NIC{{Name: "eth0", MAC: "0a:58:0a:01:02:03"}},
	},
}

func TestBuildMatchesTheGoldenFiles(t *testing.T) {
	for name, seed := range seeds {
		t.Run(name, func(t *testing.T) {
			files, err := Build(seed)
			if err != nil {
				t.Fatal(err)
			}
			golden(t, name+".meta-data", files.MetaData)
			golden(t, name+".network-config", files.NetworkConfig)
			if files.VendorData != nil {
				golden(t, name+".vendor-data", files.VendorData)
			}
		})
	}
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", name, diff)
	}
}

func TestUserDataIsPassedOnByteForByte(t *testing.T) {
	want := []byte("#cloud-config\r\n\x00\xff binary \t\n\n")
	files, err := Build(vm.Seed{InstanceID: "i", UserData: want})
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(files.UserData, want) {
		t.Errorf("got %q, want %q", files.UserData, want)
	}
	want[0] = '!'
	if files.UserData[0] == '!' {
		t.Error("the files share memory with the seed")
	}
}

func TestWithoutUserDataTheFileIsAnEmptyCloudConfig(t *testing.T) {
	files, err := Build(vm.Seed{InstanceID: "i"})
	if err != nil {
		t.Fatal(err)
	}
	if got := string(files.UserData); !strings.HasPrefix(got, "#cloud-config\n") {
		t.Errorf("got %q", got)
	}
	var config map[string]any
	if err := yaml.Unmarshal(files.UserData, &config); err != nil || len(config) != 0 {
		t.Errorf("parsed as %v, %v", config, err)
	}
}

func TestTheConfigurationNeverNamesDHCP(t *testing.T) {
	for name, seed := range seeds {
		files, err := Build(seed)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(files.NetworkConfig), "dhcp") {
			t.Errorf("%s: older cloud-init takes the key alone for a yes", name)
		}
	}
}

func TestBuildRefusesWhatAGuestWouldMisread(t *testing.T) {
	nic := vm.NIC{Name: "eth0", MAC: "0a:58:0a:01:02:03"}
	file := func(f vm.SeedFile) vm.Seed { return vm.Seed{InstanceID: "i", Files: []vm.SeedFile{f}} }
	share := func(m vm.ShareMount) vm.Seed { return vm.Seed{InstanceID: "i", Shares: []vm.ShareMount{m}} }
	for name, tc := range map[string]struct {
		seed vm.Seed
		says string
	}{
		"no instance ID":       {vm.Seed{}, "instance ID"},
		"relative file":        {file(vm.SeedFile{Path: "x"}), "absolute"},
		"two lines":            {file(vm.SeedFile{Path: "/x\n/y"}), "one line"},
		"large files":          {file(vm.SeedFile{Path: "/x", Content: make([]byte, maxSeedFiles+1)}), "bytes"},
		"sysctl on two lines":  {vm.Seed{InstanceID: "i", Sysctls: map[string]string{"a": "1\n2"}}, "one line"},
		"sysctl of no name":    {vm.Seed{InstanceID: "i", Sysctls: map[string]string{"a=b": "1"}}, "a=b"},
		"outside of the share": {share(vm.ShareMount{Source: "../x", GuestPath: "/x"}), "../x"},
		"nothing of the share": {share(vm.ShareMount{GuestPath: "/x"}), "/x"},
		"no MAC":               {vm.Seed{InstanceID: "i", NICs: []vm.NIC{{Name: "eth0"}}}, "MAC"},
		"long MAC":             {vm.Seed{InstanceID: "i", NICs: []vm.NIC{{Name: "eth0", MAC: "02:00:5e:10:00:00:00:01"}}}, "MAC"},
		"no NIC name":          {vm.Seed{InstanceID: "i", NICs: []vm.NIC{{MAC: nic.MAC}}}, "name"},
		"two of one name":      {vm.Seed{InstanceID: "i", NICs: []vm.NIC{nic, nic}}, "two NICs"},
		"zero address":         {vm.Seed{InstanceID: "i", NICs: []vm.NIC{{Name: "eth0", MAC: nic.MAC, IPs: make([]vm.NICAddress, 1)}}}, "address"},
		"zero route":           {vm.Seed{InstanceID: "i", NICs: []vm.NIC{{Name: "eth0", MAC: nic.MAC, Routes: make([]vm.Route, 1)}}}, "destination"},
		"IPv4 by an IPv6 hop":  {vm.Seed{InstanceID: "i", NICs: []vm.NIC{{Name: "eth0", MAC: nic.MAC, Routes: []vm.Route{to("10.0.0.0/8", "fe80::1")}}}}, "another IP version"},
		"DNS server by a name": {vm.Seed{InstanceID: "i", NICs: []vm.NIC{nic}, DNS: vm.DNSConfig{Servers: []string{"dns.example"}}}, "dns.example"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Build(tc.seed)
			if !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestAnAgentComesWithWhatInstallsItAtEachBoot(t *testing.T) {
	files, err := Build(vm.Seed{InstanceID: "iid-1", Agent: []byte("\x7fELF")})
	if err != nil {
		t.Fatal(err)
	}
	if string(files.Agent) != "\x7fELF" || !bytes.HasPrefix(files.VendorData, []byte("#cloud-boothook\n#!/bin/sh\n")) {
		t.Errorf("agent %q, vendor-data %q", files.Agent, files.VendorData)
	}
	if files, err = Build(vm.Seed{InstanceID: "iid-1"}); err != nil || files.VendorData != nil {
		t.Errorf("without an agent: %q, %v", files.VendorData, err)
	}
}

func TestAgentLeavesNothingToDoForABoothook(t *testing.T) {
	files, err := Build(vm.Seed{InstanceID: "i", Agent: []byte("agent"), Shares: []vm.ShareMount{{Source: "0", GuestPath: "/x"}}})
	if err != nil || bytes.Contains(files.VendorData, mountFunctions) {
		t.Errorf("vendor-data %s, %v", files.VendorData, err)
	}
}
