// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap/zapcore"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func fieldsOf(req any) map[string]any {
	enc := zapcore.NewMapObjectEncoder()
	for _, field := range LogFields(req) {
		field.AddTo(enc)
	}
	return enc.Fields
}

func TestLogFieldsNameThePodAndTellNoSecret(t *testing.T) {
	digested := "registry.example:5000/web:1@sha256:" + strings.Repeat("a", 64)
	url := &runtimeapi.ImageSpec{Image: "https://u:" + secret + "@files.example/web.qcow2?sig=" + secret}
	for _, tt := range []struct {
		req  any
		want map[string]any
	}{
		{&runtimeapi.RunPodSandboxRequest{Config: kubeletSandbox()}, map[string]any{"namespace": "shop", "pod": "web-0", "attempt": uint32(3)}},
		{&runtimeapi.CreateContainerRequest{PodSandboxId: "s", Config: kubeletContainer()}, map[string]any{
			"name": "vm", "attempt": uint32(1), "image": kubeletContainer().GetImage().GetImage(),
		}},
		{&runtimeapi.PullImageRequest{Image: url, Auth: &runtimeapi.AuthConfig{Password: secret}}, map[string]any{"image": "https://files.example/web.qcow2"}},
		{&runtimeapi.RemoveImageRequest{Image: &runtimeapi.ImageSpec{Image: digested}}, map[string]any{"image": digested}},
		{&runtimeapi.ExecSyncRequest{ContainerId: "c", Cmd: []string{secret}}, map[string]any{}},
		{nil, map[string]any{}},
	} {
		got := fieldsOf(tt.req)
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%T (-want +got):\n%s", tt.req, diff)
		}
		if strings.Contains(fmt.Sprint(got), secret) {
			t.Errorf("%T tells a secret: %v", tt.req, got)
		}
	}
}
