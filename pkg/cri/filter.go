// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"errors"

	"github.com/containerd/errdefs"
)

// hasLabels tells whether labels fit a selector: all of its pairs are there.
func hasLabels(labels, selector map[string]string) bool {
	for key, want := range selector {
		if got, ok := labels[key]; !ok || got != want {
			return false
		}
	}
	return true
}

// candidates are the records that a filter's ID leaves: all for "", else one or none.
// The ID may be a unique prefix.
func candidates[T any](id string, all func() []T, one func(string) (T, error)) ([]T, error) {
	if id == "" {
		return all(), nil
	}
	found, err := one(id)
	if errors.Is(err, errdefs.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return []T{found}, nil
}
