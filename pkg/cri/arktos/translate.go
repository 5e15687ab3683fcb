// SPDX-License-Identifier: Apache-2.0

package arktos

import (
	"context"
	"fmt"

	"google.golang.org/protobuf/proto"
)

// translate puts a message into the words of the other API. Fields that the other one does not know are dropped: what is to
// outlive that is taken out before, and what has another meaning there is taken away before (docs/reference/arktos.md).
func translate[T proto.Message](from proto.Message, to T) (T, error) {
	wire, err := proto.Marshal(from)
	if err == nil {
		err = proto.UnmarshalOptions{DiscardUnknown: true}.Unmarshal(wire, to)
	}
	if err != nil {
		return to, fmt.Errorf("put %s into the words of %s: %w", from.ProtoReflect().Descriptor().FullName(), to.ProtoReflect().Descriptor().FullName(), err)
	}
	return to, nil
}

// through answers a request by a handler of runtime.v1 that means the same.
func through[Q, R, A proto.Message](ctx context.Context, req proto.Message, theirs Q, handler func(context.Context, Q) (R, error), answer A) (A, error) {
	var none A
	theirs, err := translate(req, theirs)
	if err != nil {
		return none, err
	}
	resp, err := handler(ctx, theirs)
	if err != nil {
		return none, err
	}
	if answer, err = translate(resp, answer); err != nil {
		return none, err
	}
	return answer, nil
}
