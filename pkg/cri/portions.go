// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"google.golang.org/protobuf/proto"
)

// portionSize is how many bytes one response of a streamed list holds at most, unless one
// item alone has more. gRPC clients take messages of 4 MiB, if nobody tells them otherwise.
const portionSize = 1 << 20

// inPortions sends a list in "lists of at least one item": each item once, in order, and
// nothing at all if there are none. The list is that of one moment, however long its client
// takes to read it.
func inPortions[T any](items []T, size func(T) int, send func([]T) error) error {
	for len(items) > 0 {
		n, bytes := 1, size(items[0])
		for n < len(items) && bytes+size(items[n]) <= portionSize {
			bytes += size(items[n])
			n++
		}
		if err := send(items[:n]); err != nil {
			return err
		}
		items = items[n:]
	}
	return nil
}

// itemSize is that of an item which is encoded already, messageSize that of one which is
// not: with its tag and its length, which take at most some bytes more.
func itemSize(item []byte) int { return len(item) }

func messageSize[M proto.Message](m M) int { return proto.Size(m) + 8 }
