// SPDX-License-Identifier: Apache-2.0

package server

import (
	"bytes"
	"errors"
	"io"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
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

func callAny(t *testing.T, conn *grpc.ClientConn, name string, streamed bool, req, resp proto.Message) error {
	t.Helper()
	if !streamed {
		return conn.Invoke(t.Context(), name, req, resp)
	}
	stream, err := conn.NewStream(t.Context(), &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, name)
	if err != nil {
		return err
	}
	if err := stream.SendMsg(req); err != nil {
		return err
	}
	if err := stream.CloseSend(); err != nil {
		return err
	}
	for err = stream.RecvMsg(resp); err == nil; { // to its end
		err = stream.RecvMsg(resp)
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
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
		case field.IsMap() && field.MapValue().Kind() == protoreflect.BytesKind:
			m.Mutable(field).Map().Set(protoreflect.ValueOfString(secret).MapKey(), protoreflect.ValueOfBytes([]byte(secret)))
		case field.IsList() && field.Kind() == protoreflect.MessageKind:
			fill(t, m.Mutable(field).List().AppendMutable().Message(), depth+1)
		case field.IsList():
			if v, ok := secretOf(field); ok {
				m.Mutable(field).List().Append(v)
			}
		case field.Kind() == protoreflect.MessageKind:
			fill(t, m.Mutable(field).Message(), depth+1)
		case depth == 0 && isID(field.Name()):
			m.Set(field, protoreflect.ValueOfString("id-1"))
		default:
			if v, ok := secretOf(field); ok {
				m.Set(field, v)
			}
		}
	}
}

// isID tells whether a field is what idFields takes.
func isID(name protoreflect.Name) bool {
	return name == "pod_sandbox_id" || name == "container_id" || name == "vm" ||
		name == "PodSandboxId" // Arktos's, in Go as pod_sandbox_id
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
		if _, text := secretOf(f); text && !isID(f.Name()) {
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
