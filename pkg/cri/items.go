// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"bytes"
	"sync"
)

// items keeps records in the form in which lists send them. A record never changes, a
// change makes another one at another address (see UseCases), so its address stands for
// what it says. It is safe for concurrent use.
type items[T any] struct {
	encode func([]byte, *T) []byte

	mu   sync.Mutex
	wire map[*T][]byte
}

func newItems[T any](encode func([]byte, *T) []byte) *items[T] {
	return &items[T]{encode: encode, wire: map[*T][]byte{}}
}

// staleItems is how many items of records that are no more may be kept: looking for them
// with every list would cost more than they do.
const staleItems = 128

// of returns the items of records, one for each; all are the records that there are now.
// The bytes are shared: never write into them.
func (i *items[T]) of(all []*T) [][]byte {
	i.mu.Lock()
	defer i.mu.Unlock()
	out := make([][]byte, len(all))
	var scratch []byte
	for n, record := range all {
		item, ok := i.wire[record]
		if !ok {
			scratch = appendMessage(scratch[:0], itemsField, func(b []byte) []byte { return i.encode(b, record) })
			item = bytes.Clone(scratch)
			i.wire[record] = item
		}
		out[n] = item
	}
	if len(i.wire) > len(all)+staleItems {
		i.wire = make(map[*T][]byte, len(all))
		for n, record := range all {
			i.wire[record] = out[n]
		}
	}
	return out
}
