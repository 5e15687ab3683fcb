// SPDX-License-Identifier: Apache-2.0

package vmapi_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap/zapcore"

	"github.com/vmlet/vmlet/pkg/vmapi"
	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
)

func TestLogFieldsNameImagesAndDisksAndTellNoSecret(t *testing.T) {
	const secret = "hunter2"
	for _, tt := range []struct {
		req  any
		want map[string]any
	}{
		{&vmletv1.PullImageRequest{Image: "https://u:" + secret + "@files.example/web.qcow2?sig=" + secret, Auth: &vmletv1.RegistryAuth{Password: secret}},
			map[string]any{"image": "https://files.example/web.qcow2"}},
		{&vmletv1.ImportImageRequest{Part: &vmletv1.ImportImageRequest_Name{Name: "web:1"}}, map[string]any{"image": "web:1"}},
		{&vmletv1.RemoveDiskRequest{Name: "claim/a/b/c"}, map[string]any{"disk": "claim/a/b/c"}},
		{&vmletv1.CancelOperationRequest{Vm: "a", Id: "1f"}, map[string]any{"operation": "1f"}},
		{&vmletv1.RebootRequest{Vm: "a"}, map[string]any{}},
		{nil, map[string]any{}},
	} {
		enc := zapcore.NewMapObjectEncoder()
		for _, field := range vmapi.LogFields(tt.req) {
			field.AddTo(enc)
		}
		if diff := cmp.Diff(tt.want, enc.Fields); diff != "" {
			t.Errorf("%T (-want +got):\n%s", tt.req, diff)
		}
	}
}
