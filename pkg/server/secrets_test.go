// SPDX-License-Identifier: Apache-2.0

package server

import (
	"bytes"
	"sync"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

const secret = "s3cr3t-do-not-tell"

// lockedBuffer takes log lines from many goroutines.
type lockedBuffer struct {
	mu sync.Mutex
	bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.Write(p)
}

// Every text in every request is secret here, but for the IDs: passwords, tokens,
// environment, annotations, commands. None of it may be in the log, at any level.
func TestTheLogHoldsNothingOfARequestButItsIDs(t *testing.T) {
	var written lockedBuffer
	logger := zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), zapcore.AddSync(&written), zap.DebugLevel))
	r := serve(t, &stub{}, func(cfg *Config) { cfg.Logger = logger })

	services := (&runtimeapi.VersionRequest{}).ProtoReflect().Descriptor().ParentFile().Services()
	calls := 0
	for i := range services.Len() {
		service := services.Get(i)
		for j := range service.Methods().Len() {
			method := service.Methods().Get(j)
			req := dynamicpb.NewMessage(method.Input())
			fill(t, req, 0)
			if method.Input().Fields().Len() > 0 && !bytes.Contains(mustMarshal(t, req), []byte(secret)) && hasText(method.Input()) {
				t.Errorf("%s was sent without a secret", method.FullName())
			}
			name := "/" + string(service.FullName()) + "/" + string(method.Name())
			if err := callAny(t, r.conn, name, method.IsStreamingServer(), req, dynamicpb.NewMessage(method.Output())); err != nil {
				t.Logf("%s: %v", name, err) // most are not implemented
			}
			calls++
		}
	}
	r.stop()
	<-r.ended

	written.mu.Lock()
	defer written.mu.Unlock()
	if n := bytes.Count(written.Bytes(), []byte(`"msg":"call"`)); n != calls {
		t.Errorf("%d calls were logged, want %d", n, calls)
	}
	if !bytes.Contains(written.Bytes(), []byte(`"sandbox":"id-1"`)) || !bytes.Contains(written.Bytes(), []byte(`"container":"id-1"`)) {
		t.Error("the IDs are not in the log")
	}
	for line := range bytes.Lines(written.Bytes()) {
		if bytes.Contains(line, []byte(secret)) {
			t.Errorf("a secret is in the log: %s", line)
		}
	}
}

func callAny(t *testing.T, conn *grpc.ClientConn, name string, streamed bool, req, resp proto.Message) error {
	t.Helper()
	if !streamed {
		return conn.Invoke(t.Context(), name, req, resp)
	}
	stream, err := conn.NewStream(t.Context(), &grpc.StreamDesc{ServerStreams: true}, name)
	if err != nil {
		return err
	}
	if err := stream.SendMsg(req); err != nil {
		return err
	}
	if err := stream.CloseSend(); err != nil {
		return err
	}
	return stream.RecvMsg(resp)
}

// fill puts the secret into every text of a message, and "id-1" into its IDs.
func fill(t *testing.T, m protoreflect.Message, depth int) {
	t.Helper()
	if depth > 6 {
		return
	}
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		field := fields.Get(i)
		switch {
		case field.IsMap() && field.MapValue().Kind() == protoreflect.StringKind:
			m.Mutable(field).Map().Set(protoreflect.ValueOfString(secret).MapKey(), protoreflect.ValueOfString(secret))
		case field.IsList() && field.Kind() == protoreflect.MessageKind:
			fill(t, m.Mutable(field).List().AppendMutable().Message(), depth+1)
		case field.IsList():
			if v, ok := secretOf(field); ok {
				m.Mutable(field).List().Append(v)
			}
		case field.Kind() == protoreflect.MessageKind:
			fill(t, m.Mutable(field).Message(), depth+1)
		case depth == 0 && (field.Name() == "pod_sandbox_id" || field.Name() == "container_id"):
			m.Set(field, protoreflect.ValueOfString("id-1"))
		default:
			if v, ok := secretOf(field); ok {
				m.Set(field, v)
			}
		}
	}
}

func secretOf(field protoreflect.FieldDescriptor) (protoreflect.Value, bool) {
	switch field.Kind() {
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(secret), true
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes([]byte(secret)), true
	default:
		return protoreflect.Value{}, false
	}
}

// hasText tells whether a message has a text of its own that is no ID.
func hasText(d protoreflect.MessageDescriptor) bool {
	for i := range d.Fields().Len() {
		f := d.Fields().Get(i)
		if _, text := secretOf(f); text && f.Name() != "pod_sandbox_id" && f.Name() != "container_id" {
			return true
		}
	}
	return false
}

func mustMarshal(t *testing.T, m proto.Message) []byte {
	t.Helper()
	wire, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return wire
}
