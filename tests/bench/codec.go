// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // registers the codec that is put off
	"google.golang.org/grpc/mem"
)

// lateCodec is the client's own codec, but for its decoding, which waits until it is asked
// for: what a client does with an answer is not the daemon's part of a call. For one call
// at a time.
type lateCodec struct {
	encoding.CodecV2
	data mem.BufferSlice
	into any
}

func newLateCodec() *lateCodec { return &lateCodec{CodecV2: encoding.GetCodecV2("proto")} }

// Unmarshal implements encoding.CodecV2: it keeps the answer.
func (c *lateCodec) Unmarshal(data mem.BufferSlice, into any) error {
	data.Ref()
	c.data, c.into = data, into
	return nil
}

// decode fills in the last answer.
func (c *lateCodec) decode() error {
	defer c.data.Free()
	return c.CodecV2.Unmarshal(c.data, c.into)
}
