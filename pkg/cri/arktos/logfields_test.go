// SPDX-License-Identifier: Apache-2.0

package arktos

import (
	"strings"
	"testing"

	"go.uber.org/zap/zapcore"

	arktosv1alpha2 "github.com/vmlet/vmlet/proto/arktos/v1alpha2"
)

func TestLogFieldsNameThePodAndTellNoSecret(t *testing.T) {
	const secret = "s3cr3t"
	config := &arktosv1alpha2.PodSandboxConfig{
		Metadata:    &arktosv1alpha2.PodSandboxMetadata{Name: "db", Namespace: "shop", Tenant: "acme", Uid: secret},
		Annotations: map[string][]byte{userData: []byte(secret)}, Labels: map[string]string{"a": secret},
	}
	image := &arktosv1alpha2.ImageSpec{Image: "user:" + secret + "@registry.test/tiny"}
	for want, req := range map[string]any{
		"tenant=acme namespace=shop pod=db": &arktosv1alpha2.RunPodSandboxRequest{Config: config},
		"name=vm": &arktosv1alpha2.CreateContainerRequest{SandboxConfig: config, Config: &arktosv1alpha2.ContainerConfig{
			Metadata: &arktosv1alpha2.ContainerMetadata{Name: "vm"}, Image: image, Envs: []*arktosv1alpha2.KeyValue{{Key: "P", Value: []byte(secret)}},
		}},
		"container=c1":               &arktosv1alpha2.RebootVMRequest{VmId: "c1"},
		"container=c2 snapshot=take": &arktosv1alpha2.CreateSnapshotRequest{VmID: "c2", SnapshotID: "take"},
		"container=c3 snapshot=back": &arktosv1alpha2.RestoreToSnapshotRequest{VmID: "c3", SnapshotID: "back"},
		"pod=db nic=eth1": &arktosv1alpha2.DeviceAttachDetachRequest{PodSandboxID: "db", Nic: &arktosv1alpha2.NicSpec{
			Name: "eth1", PortId: secret,
		}},
		"image=": &arktosv1alpha2.PullImageRequest{Image: image, Auth: &arktosv1alpha2.AuthConfig{Password: secret}, SandboxConfig: config},
	} {
		var words []string
		for _, f := range LogFields(req) {
			if f.Type == zapcore.StringType {
				words = append(words, f.Key+"="+f.String)
			}
		}
		got := strings.Join(words, " ")
		if !strings.HasPrefix(got, want) || strings.Contains(got, secret) {
			t.Errorf("%T: %s, want %s", req, got, want)
		}
	}
	if got := LogFields(&arktosv1alpha2.StatusRequest{}); got != nil {
		t.Errorf("%v", got)
	}
}
