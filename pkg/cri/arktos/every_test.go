// SPDX-License-Identifier: Apache-2.0

package arktos_test

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	arktosv1alpha2 "github.com/vmlet/vmlet/proto/arktos/v1alpha2"
)

// unary leaves a client method's options out.
func unary[Q, R proto.Message](do func(context.Context, Q, ...grpc.CallOption) (R, error)) func(context.Context, Q) (R, error) {
	return func(ctx context.Context, req Q) (R, error) { return do(ctx, req) }
}

func everyMethod() (all []protoreflect.MethodDescriptor) {
	services := arktosv1alpha2.File_arktos_v1alpha2_api_proto.Services()
	for i := range services.Len() {
		for j := range services.Get(i).Methods().Len() {
			all = append(all, services.Get(i).Methods().Get(j))
		}
	}
	return all
}

func (w *world) newMessage(d protoreflect.MessageDescriptor) proto.Message {
	w.t.Helper()
	kind, err := protoregistry.GlobalTypes.FindMessageByName(d.FullName())
	if err != nil {
		w.t.Fatal(err)
	}
	return kind.New().Interface()
}

// invoke makes a call by its descriptor, as any program could.
func (w *world) invoke(m protoreflect.MethodDescriptor, req proto.Message) error {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 20*time.Second)
	defer cancel()
	return w.conn.Invoke(ctx, fmt.Sprintf("/%s/%s", m.Parent().FullName(), m.Name()), req, w.newMessage(m.Output()))
}

// filling says what a field of a message is set to.
type filling struct {
	name string
	// ids are the values of fields that name a sandbox or a container of a pod.
	sandbox, container string
	number             int64
	text               string
	enum               protoreflect.EnumNumber
	// empty leaves fields alone that hold no messages.
	empty bool
}

// fill sets all fields. Messages within are there, and lists have one element.
func (f filling) fill(m protoreflect.Message, depth int) {
	for i := range m.Descriptor().Fields().Len() {
		field := m.Descriptor().Fields().Get(i)
		switch {
		case depth == 0, field.IsMap() && f.empty:
		case field.IsMap():
			m.Mutable(field).Map().Set(protoreflect.ValueOfString(f.text).MapKey(), f.value(field.MapValue()))
		case field.Kind() == protoreflect.MessageKind && field.IsList():
			f.fill(m.Mutable(field).List().AppendMutable().Message(), depth-1)
		case field.Kind() == protoreflect.MessageKind:
			f.fill(m.Mutable(field).Message(), depth-1)
		case f.empty:
		case field.IsList():
			m.Mutable(field).List().Append(f.value(field))
		default:
			m.Set(field, f.value(field))
		}
	}
}

func (f filling) value(field protoreflect.FieldDescriptor) protoreflect.Value {
	switch field.Kind() {
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(true)
	case protoreflect.EnumKind:
		return protoreflect.ValueOfEnum(f.enum)
	case protoreflect.Int32Kind:
		return protoreflect.ValueOfInt32(int32(max(math.MinInt32, min(math.MaxInt32, f.number))))
	case protoreflect.Int64Kind:
		return protoreflect.ValueOfInt64(f.number)
	case protoreflect.Uint32Kind:
		return protoreflect.ValueOfUint32(uint32(f.number))
	case protoreflect.Uint64Kind:
		return protoreflect.ValueOfUint64(uint64(f.number))
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes([]byte(f.text))
	default:
		return protoreflect.ValueOfString(f.textOf(strings.ToLower(string(field.Name()))))
	}
}

func (f filling) textOf(name string) string {
	switch {
	case f.sandbox != "" && (name == "pod_sandbox_id" || name == "podsandboxid"):
		return f.sandbox
	case f.container != "" && slices.Contains([]string{"container_id", "vm_id", "vmid"}, name):
		return f.container
	}
	return f.text
}

// blame are the codes of what is the client's fault, or nobody's.
var blame = []codes.Code{codes.OK, codes.InvalidArgument, codes.NotFound, codes.FailedPrecondition, codes.AlreadyExists}

// Whatever a request has or lacks, no handler breaks: each is called with nothing, with empty messages in all places, and with all
// fields out of range, about no pod and about one that runs.
func TestNoRequestBreaksAHandler(t *testing.T) {
	w := newWorld(t)
	huge := strings.Repeat("x", 1<<16)
	for i, m := range everyMethod() {
		config := podConfig("acme")
		config.Metadata.Name = fmt.Sprint("pod-", i)
		config.Metadata.Uid += fmt.Sprint(i)
		sandbox, container := w.running(config)
		for _, f := range []filling{
			{name: "nothing"},
			{name: "empty messages", empty: true},
			{name: "all too small", number: math.MinInt64, text: "\x00", enum: -1},
			{name: "all too big", number: math.MaxInt64, text: huge, enum: 99},
			{name: "too small, of a pod", number: math.MinInt64, text: "../\n;=", enum: -1, sandbox: sandbox, container: container},
			{name: "too big, of a pod", number: math.MaxInt64, text: huge, enum: 99, sandbox: sandbox, container: container},
		} {
			req := w.newMessage(m.Input())
			if f.name != "nothing" {
				f.fill(req.ProtoReflect(), 5)
			}
			if err := w.invoke(m, req); !slices.Contains(blame, status.Code(err)) {
				t.Errorf("%s, %s: %.300v", m.Name(), f.name, err)
			}
		}
	}
}

// FuzzEveryCall gives any bytes to any call.
func FuzzEveryCall(f *testing.F) {
	methods := everyMethod()
	for i, m := range methods {
		kind, err := protoregistry.GlobalTypes.FindMessageByName(m.Input().FullName())
		if err != nil {
			f.Fatal(err)
		}
		for _, with := range []filling{{empty: true}, {number: 1, text: "a", enum: 1}} {
			req := kind.New()
			with.fill(req, 5)
			wire, err := proto.Marshal(req.Interface())
			if err != nil {
				f.Fatal(err)
			}
			f.Add(uint8(i), wire)
		}
	}
	f.Fuzz(func(t *testing.T, method uint8, wire []byte) {
		w := newWorld(t)
		m := methods[int(method)%len(methods)]
		req := w.newMessage(m.Input())
		if proto.Unmarshal(wire, req) != nil {
			return
		}
		if err := w.invoke(m, req); !slices.Contains(blame, status.Code(err)) {
			t.Errorf("%s: %v", m.Name(), err)
		}
	})
}
