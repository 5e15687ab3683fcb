// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"time"

	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // registers the codec that is timed
	"google.golang.org/grpc/mem"
)

// timedCodec is the client's own codec, and takes the time of its decoding: what a client
// does with an answer is part of a call, and not the daemon's. For one call at a time.
type timedCodec struct {
	encoding.CodecV2
	decoding samples
}

func newTimedCodec() *timedCodec { return &timedCodec{CodecV2: encoding.GetCodecV2("proto")} }

// Unmarshal implements encoding.CodecV2.
func (c *timedCodec) Unmarshal(data mem.BufferSlice, v any) error {
	begin := time.Now()
	err := c.CodecV2.Unmarshal(data, v)
	c.decoding.add(time.Since(begin))
	return err
}
