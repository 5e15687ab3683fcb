// SPDX-License-Identifier: Apache-2.0

package arktosv1alpha2_test

import (
	"encoding/hex"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	arktosv1alpha2 "github.com/vmlet/vmlet/proto/arktos/v1alpha2"
)

// What Arktos's own client, of 2022, sends for these.
func TestBytesAreThoseOfArktos(t *testing.T) {
	for _, tc := range []struct {
		wire    string
		message proto.Message
	}{
		{"0a03706f641202766d1a1d0a04657468311201731a01702207312e322e332e3428013201743a0176", &arktosv1alpha2.DeviceAttachDetachRequest{
			PodSandboxID: "pod", VmName: "vm", Nic: &arktosv1alpha2.NicSpec{
				Name: "eth1", SubnetName: "s", PortId: "p", IpAddress: "1.2.3.4", IsIpV6Enabled: true, Tag: "t", VPC: "v",
			},
		}},
		{"0a01761204080a1001", &arktosv1alpha2.RebootVMRequest{VmId: "v", RebootSpec: &arktosv1alpha2.VmRebootSpec{DelayInSeconds: 10, DomainRebootFlag: 1}}},
		{"0a01761201731801", &arktosv1alpha2.CreateSnapshotRequest{VmID: "v", SnapshotID: "s", Flags: 1}},
		{"0a030a0165", &arktosv1alpha2.ListDeviceResponse{Nics: []*arktosv1alpha2.NicSpec{{Name: "e"}}}},
	} {
		name := tc.message.ProtoReflect().Descriptor().Name()
		wire, err := proto.MarshalOptions{Deterministic: true}.Marshal(tc.message)
		if err != nil || hex.EncodeToString(wire) != tc.wire {
			t.Errorf("%s is written as %x, %v; want %s", name, wire, err, tc.wire)
		}
		theirs, err := hex.DecodeString(tc.wire)
		if err != nil {
			t.Fatal(err)
		}
		read := tc.message.ProtoReflect().New().Interface()
		if err := proto.Unmarshal(theirs, read); err != nil || !proto.Equal(read, tc.message) || len(read.ProtoReflect().GetUnknown()) > 0 {
			t.Errorf("%s is read as %v, %v", name, read, err)
		}
	}
}

// asBytes are the fields that Arktos has as strings. The wire is the same.
var asBytes = []string{"PodSandboxConfig.annotations", "PodSandbox.annotations", "PodSandboxStatus.annotations", "KeyValue.value"}

// testdata/messages.txt is taken from the descriptor of Arktos's api.pb.go: each message and enum on a line.
func TestMessagesAreThoseOfArktos(t *testing.T) {
	text, err := os.ReadFile("testdata/messages.txt")
	if err != nil {
		t.Fatal(err)
	}
	var ours []string
	file := arktosv1alpha2.File_arktos_v1alpha2_api_proto
	for i := range file.Messages().Len() {
		m := file.Messages().Get(i)
		fields := make([]string, 0, m.Fields().Len())
		for j := range m.Fields().Len() {
			f := m.Fields().Get(j)
			fields = append(fields, fmt.Sprintf("%d %s:%s", f.Number(), f.Name(), kindOf(f)))
		}
		if len(fields) == 0 {
			fields = []string{"(empty)"}
		}
		ours = append(ours, fmt.Sprintf("%s: %s", m.Name(), strings.Join(fields, "; ")))
	}
	for i := range file.Enums().Len() {
		e := file.Enums().Get(i)
		values := make([]string, 0, e.Values().Len())
		for j := range e.Values().Len() {
			values = append(values, fmt.Sprintf("%s=%d", e.Values().Get(j).Name(), e.Values().Get(j).Number()))
		}
		ours = append(ours, fmt.Sprintf("enum %s: %s", e.Name(), strings.Join(values, ", ")))
	}
	theirs := strings.Split(strings.TrimSpace(string(text)), "\n")
	for _, line := range theirs {
		if !slices.Contains(ours, line) {
			t.Errorf("Arktos has\n%s", line)
		}
	}
	if len(ours) != len(theirs) {
		t.Errorf("%d messages and enums, Arktos has %d", len(ours), len(theirs))
	}
}

// kindOf is a field's type as messages.txt writes it.
func kindOf(f protoreflect.FieldDescriptor) string {
	kind := f.Kind().String()
	switch {
	case f.IsMap():
		return "map<string,string>"
	case f.Kind() == protoreflect.MessageKind:
		kind = string(f.Message().Name())
	case f.Kind() == protoreflect.EnumKind:
		kind = string(f.Enum().Name())
	case slices.Contains(asBytes, string(f.Parent().Name())+"."+string(f.Name())):
		kind = "string"
	}
	if f.IsList() {
		return "[]" + kind
	}
	return kind
}

func TestServicesAreThoseOfArktos(t *testing.T) {
	services := arktosv1alpha2.File_arktos_v1alpha2_api_proto.Services()
	for name, methods := range map[protoreflect.FullName]int{"runtime.v1alpha2.RuntimeService": 28, "runtime.v1alpha2.ImageService": 5} {
		if s := services.ByName(name.Name()); s == nil || s.FullName() != name || s.Methods().Len() != methods {
			t.Errorf("%s is not there with %d methods: %v", name, methods, s)
		}
	}
	for i := range services.ByName("RuntimeService").Methods().Len() {
		if m := services.ByName("RuntimeService").Methods().Get(i); m.IsStreamingClient() || m.IsStreamingServer() {
			t.Errorf("%s is a stream", m.Name())
		}
	}
}

// Both APIs are in one program: their names in Go's registry are not each other's.
func TestBothAPIsAreRegistered(t *testing.T) {
	for name, file := range map[protoreflect.FullName]protoreflect.FileDescriptor{
		"runtime.v1.PodSandboxStatus":       (&runtimeapi.PodSandboxStatus{}).ProtoReflect().Descriptor().ParentFile(),
		"runtime.v1alpha2.PodSandboxStatus": arktosv1alpha2.File_arktos_v1alpha2_api_proto,
		"runtime.v1alpha2.RuntimeService":   arktosv1alpha2.File_arktos_v1alpha2_api_proto,
		"runtime.v1.RuntimeService":         (&runtimeapi.PodSandboxStatus{}).ProtoReflect().Descriptor().ParentFile(),
	} {
		d, err := protoregistry.GlobalFiles.FindDescriptorByName(name)
		if err != nil || d.ParentFile().Path() != file.Path() {
			t.Errorf("%s: %v, %v", name, d, err)
		}
	}
}

// User-data that is no UTF-8 comes through as it is.
func TestAnnotationsNeedNotBeText(t *testing.T) {
	wire := []byte{0x0a, 0x0a, 0x3a, 0x08, 0x0a, 0x01, 'k', 0x12, 0x03, 0xff, 0xfe, 0x00}
	var req arktosv1alpha2.RunPodSandboxRequest
	if err := proto.Unmarshal(wire, &req); err != nil || string(req.GetConfig().GetAnnotations()["k"]) != "\xff\xfe\x00" {
		t.Errorf("%v, %v", &req, err)
	}
}
