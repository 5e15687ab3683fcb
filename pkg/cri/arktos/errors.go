// SPDX-License-Identifier: Apache-2.0

package arktos

import (
	"fmt"

	"github.com/containerd/errdefs"
)

// invalid is an InvalidArgument that names the request's field.
func invalid(field, format string, args ...any) error {
	return fmt.Errorf("%s: %s: %w", field, fmt.Sprintf(format, args...), errdefs.ErrInvalidArgument)
}

// refused is a FailedPrecondition for what Arktos's agent may say and a node cannot do. reason says why, and what to do instead.
func refused(field, reason string) error {
	return fmt.Errorf("%s: %s: %w", field, reason, errdefs.ErrFailedPrecondition)
}
