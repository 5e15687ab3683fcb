// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"bytes"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/vmlet/vmlet/pkg/vm"
)

// A kubelet lists all sandboxes and all containers every second. protobuf-go encodes
// their labels and annotations by reflection, which costs most of such a call: 22,000
// allocations for 1000 sandboxes with five entries each. So the items of these two lists
// are written in the wire format, once for each version of a record (see items), and
// travel in the response as bytes that it does not look into
// (BenchmarkListPodSandbox1000). A client sees no difference. The field numbers are those of api.proto and never
// change; TestListedItemsAreWhatTheAPISays and FuzzLists hold the result against the
// messages.

// itemsField is the number of the only field of ListPodSandboxResponse and of
// ListContainersResponse.
const itemsField = 1

// encoded puts a copy of items that were encoded already into a response.
func encoded[M protoreflect.ProtoMessage](response M, items [][]byte) M {
	response.ProtoReflect().SetUnknown(bytes.Join(items, nil))
	return response
}

// appendSandbox appends a PodSandbox.
func appendSandbox(b []byte, sb *vm.Sandbox) []byte {
	b = appendString(b, 1, sb.ID)
	b = appendMessage(b, 2, func(b []byte) []byte { // PodSandboxMetadata
		b = appendString(b, 1, sb.Spec.Name)
		b = appendString(b, 2, sb.Spec.UID)
		b = appendString(b, 3, sb.Spec.Namespace)
		return appendNumber(b, 4, uint64(sb.Spec.Attempt))
	})
	b = appendNumber(b, 3, uint64(sandboxState(sb.Status.State)))
	b = appendNumber(b, 4, uint64(nanos(sb.CreatedAt)))
	b = appendMap(b, 5, sb.Spec.Labels)
	b = appendMap(b, 6, sb.Spec.Annotations)
	return appendString(b, 7, sb.Spec.RuntimeHandler)
}

// appendContainer appends a Container.
func appendContainer(b []byte, c *vm.Container) []byte {
	b = appendString(b, 1, c.ID)
	b = appendString(b, 2, c.SandboxID)
	b = appendMessage(b, 3, func(b []byte) []byte { // ContainerMetadata
		b = appendString(b, 1, c.Spec.Name)
		return appendNumber(b, 2, uint64(c.Spec.Attempt))
	})
	b = appendMessage(b, 4, func(b []byte) []byte { // ImageSpec
		b = appendString(b, 1, imageName(c.Spec))
		return appendString(b, 18, c.Spec.UserSpecifiedImage)
	})
	b = appendString(b, 5, c.Spec.ImageID)
	b = appendNumber(b, 6, uint64(containerState(c.Status.State)))
	b = appendNumber(b, 7, uint64(nanos(c.CreatedAt)))
	b = appendMap(b, 8, c.Spec.Labels)
	b = appendMap(b, 9, c.Spec.Annotations)
	return appendString(b, 10, c.Spec.ImageID)
}

func appendString(b []byte, field protowire.Number, s string) []byte {
	if s == "" {
		return b
	}
	return protowire.AppendString(protowire.AppendTag(b, field, protowire.BytesType), s)
}

func appendNumber(b []byte, field protowire.Number, n uint64) []byte {
	if n == 0 {
		return b
	}
	return protowire.AppendVarint(protowire.AppendTag(b, field, protowire.VarintType), n)
}

// appendMap appends a map, which is a repeated message of key and value.
func appendMap(b []byte, field protowire.Number, m map[string]string) []byte {
	for key, value := range m {
		b = appendMessage(b, field, func(b []byte) []byte {
			return appendString(appendString(b, 1, key), 2, value)
		})
	}
	return b
}

// appendMessage appends the message that body appends. Its length, which comes before it,
// is known only afterwards: the bytes are moved by what the length takes, mostly one.
func appendMessage(b []byte, field protowire.Number, body func([]byte) []byte) []byte {
	b = protowire.AppendTag(b, field, protowire.BytesType)
	start := len(b)
	b = body(b)
	size := len(b) - start
	var room [10]byte
	width := len(protowire.AppendVarint(room[:0], uint64(size)))
	b = append(b, room[:width]...)
	copy(b[start+width:], b[start:start+size])
	protowire.AppendVarint(b[:start], uint64(size))
	return b
}
