// SPDX-License-Identifier: Apache-2.0

package server

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"slices"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	arktosv1alpha2 "github.com/vmlet/vmlet/proto/arktos/v1alpha2"
	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
)

// asking are all methods that change nothing, and are logged for debugging only. Every other one leaves a line.
var asking = []string{
	"runtime.v1.ImageService/ImageFsInfo", "runtime.v1.ImageService/ImageStatus", "runtime.v1.ImageService/ListImages",
	"runtime.v1.ImageService/StreamImages",
	"runtime.v1.RuntimeService/ContainerStats", "runtime.v1.RuntimeService/ContainerStatus", "runtime.v1.RuntimeService/ExecSync",
	"runtime.v1.RuntimeService/GetContainerEvents", "runtime.v1.RuntimeService/ListContainerStats",
	"runtime.v1.RuntimeService/ListContainers", "runtime.v1.RuntimeService/ListMetricDescriptors",
	"runtime.v1.RuntimeService/ListPodSandbox", "runtime.v1.RuntimeService/ListPodSandboxMetrics",
	"runtime.v1.RuntimeService/ListPodSandboxStats", "runtime.v1.RuntimeService/PodSandboxStats",
	"runtime.v1.RuntimeService/PodSandboxStatus", "runtime.v1.RuntimeService/RuntimeConfig", "runtime.v1.RuntimeService/Status",
	"runtime.v1.RuntimeService/StreamContainerStats", "runtime.v1.RuntimeService/StreamContainers",
	"runtime.v1.RuntimeService/StreamPodSandboxMetrics", "runtime.v1.RuntimeService/StreamPodSandboxStats",
	"runtime.v1.RuntimeService/StreamPodSandboxes", "runtime.v1.RuntimeService/Version",
	"runtime.v1alpha2.ImageService/ImageFsInfo", "runtime.v1alpha2.ImageService/ImageStatus", "runtime.v1alpha2.ImageService/ListImages",
	"runtime.v1alpha2.RuntimeService/ContainerStats", "runtime.v1alpha2.RuntimeService/ContainerStatus", "runtime.v1alpha2.RuntimeService/ExecSync",
	"runtime.v1alpha2.RuntimeService/ListContainerStats", "runtime.v1alpha2.RuntimeService/ListContainers",
	"runtime.v1alpha2.RuntimeService/ListNetworkInterfaces", "runtime.v1alpha2.RuntimeService/ListPodSandbox",
	"runtime.v1alpha2.RuntimeService/PodSandboxStatus", "runtime.v1alpha2.RuntimeService/Status", "runtime.v1alpha2.RuntimeService/Version",
	"vmlet.v1.CheckpointService/GetCheckpoint",
	"vmlet.v1.DiskService/ListDisks",
	"vmlet.v1.NodeService/Version",
	"vmlet.v1.VMService/Capabilities", "vmlet.v1.VMService/GetAuthorizedKeys", "vmlet.v1.VMService/GetOperation", "vmlet.v1.VMService/GetSnapshot", "vmlet.v1.VMService/ListNICs",
	"vmlet.v1.VMService/ListOperations", "vmlet.v1.VMService/WatchOperation",
	"vmlet.v1.VMService/ListSnapshots", "vmlet.v1.VMService/ListVMDisks", "vmlet.v1.VMService/Watch",
}

// services are all that clients of vmlet's socket can call, health and reflection aside.
func services() []protoreflect.ServiceDescriptor {
	var all []protoreflect.ServiceDescriptor
	for _, file := range []protoreflect.FileDescriptor{
		(&runtimeapi.VersionRequest{}).ProtoReflect().Descriptor().ParentFile(),
		(&arktosv1alpha2.VersionRequest{}).ProtoReflect().Descriptor().ParentFile(),
		(&vmletv1.VersionRequest{}).ProtoReflect().Descriptor().ParentFile(),
		(&vmletv1.CreateCheckpointRequest{}).ProtoReflect().Descriptor().ParentFile(),
	} {
		for i := range file.Services().Len() {
			all = append(all, file.Services().Get(i))
		}
	}
	return all
}

// answerAll serves every method of a service: it takes one message and answers with an empty one.
func answerAll(t *testing.T, service protoreflect.ServiceDescriptor) *grpc.ServiceDesc {
	t.Helper()
	desc := &grpc.ServiceDesc{ServiceName: string(service.FullName()), HandlerType: (*any)(nil)}
	for i := range service.Methods().Len() {
		method := service.Methods().Get(i)
		newRequest := func() proto.Message { return instance(t, method.Input()) }
		name := string(method.Name())
		if method.IsStreamingClient() || method.IsStreamingServer() {
			desc.Streams = append(desc.Streams, grpc.StreamDesc{
				StreamName: name, ClientStreams: method.IsStreamingClient(), ServerStreams: method.IsStreamingServer(),
				Handler: func(_ any, stream grpc.ServerStream) error {
					if err := stream.RecvMsg(newRequest()); err != nil {
						return err
					}
					return stream.SendMsg(dynamicpb.NewMessage(method.Output()))
				},
			})
			continue
		}
		desc.Methods = append(desc.Methods, grpc.MethodDesc{
			MethodName: name,
			Handler: func(srv any, ctx context.Context, decode func(any) error, chain grpc.UnaryServerInterceptor) (any, error) {
				req := newRequest()
				if err := decode(req); err != nil {
					return nil, err
				}
				return chain(ctx, req, &grpc.UnaryServerInfo{Server: srv, FullMethod: "/" + desc.ServiceName + "/" + name},
					func(context.Context, any) (any, error) { return dynamicpb.NewMessage(method.Output()), nil })
			},
		})
	}
	return desc
}

// instance is an empty message of the generated type.
func instance(t *testing.T, d protoreflect.MessageDescriptor) proto.Message {
	t.Helper()
	kind, err := protoregistry.GlobalTypes.FindMessageByName(d.FullName())
	if err != nil {
		t.Fatal(err)
	}
	return kind.New().Interface()
}

type everything struct{ t *testing.T }

func (e everything) register(r grpc.ServiceRegistrar) {
	for _, service := range services() {
		r.RegisterService(answerAll(e.t, service), nil)
	}
}

// Every method leaves one line: who called, what, of which VM, and how it ended; loud if it may change something. Every
// text in every request is secret here, but for the IDs: passwords, tokens, environment, annotations, commands. None of it
// may be in the log, at any level.
func TestEveryMethodLeavesALineWithoutSecrets(t *testing.T) {
	for _, service := range services() {
		for i := range service.Methods().Len() {
			method := service.Methods().Get(i)
			name := string(service.FullName()) + "/" + string(method.Name())
			t.Run(name, func(t *testing.T) {
				line := auditOf(t, method, name)
				want := map[string]any{
					"method": name, "code": "OK", "level": "info", "pid": float64(os.Getpid()), "uid": float64(os.Getuid()),
				}
				if slices.Contains(asking, name) {
					want["level"] = "debug"
				}
				fields := method.Input().Fields()
				for field, key := range map[protoreflect.Name]string{"pod_sandbox_id": "sandbox", "container_id": "container", "vm": "vm"} {
					if fields.ByName(field) != nil {
						want[key] = "id-1"
					}
				}
				if service.Name() == "VMService" && fields.ByName("vm") == nil {
					t.Errorf("its request does not name the VM by a field vm, so that nobody learns which it was")
				}
				for key, value := range want {
					if line[key] != value {
						t.Errorf("%s is %v, want %v", key, line[key], value)
					}
				}
			})
		}
	}
	for _, name := range asking {
		if _, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(bytes.ReplaceAll([]byte(name), []byte("/"), []byte(".")))); err != nil {
			t.Errorf("%s is no method", name)
		}
	}
}

// auditOf calls a method and returns its line.
func auditOf(t *testing.T, method protoreflect.MethodDescriptor, name string) map[string]any {
	t.Helper()
	var written lockedBuffer
	logger := zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), zapcore.AddSync(&written), zap.DebugLevel))
	r := serveOn(t, everything{t}, func(cfg *Config) { cfg.Logger = logger })
	req := dynamicpb.NewMessage(method.Input())
	fill(t, req, 0)
	if hasText(method.Input()) && !bytes.Contains(mustMarshal(t, req), []byte(secret)) {
		t.Error("it was sent without a secret")
	}
	streamed := method.IsStreamingServer() || method.IsStreamingClient()
	if err := callAny(t, r.conn, "/"+name, streamed, req, dynamicpb.NewMessage(method.Output())); err != nil {
		t.Fatal(err)
	}
	r.stop()
	<-r.ended
	written.mu.Lock()
	defer written.mu.Unlock()
	var found map[string]any
	for line := range bytes.Lines(written.Bytes()) {
		if bytes.Contains(line, []byte(secret)) {
			t.Errorf("a secret is in the log: %s", line)
		}
		var fields map[string]any
		if err := json.Unmarshal(line, &fields); err != nil {
			t.Fatal(err)
		}
		if fields["msg"] == "call" {
			if found != nil {
				t.Errorf("two lines: %v, %v", found, fields)
			}
			found = fields
		}
	}
	if found == nil {
		t.Fatal("no line tells of the call")
	}
	return found
}
