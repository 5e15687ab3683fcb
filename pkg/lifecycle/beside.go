// SPDX-License-Identifier: Apache-2.0

package lifecycle

import "context"

// beside begins a step that the steps after it do not need, and returns the function that
// waits for it and tells how it ended, as often as it is called. Its caller must have
// waited before it returns: nothing may be undone while it is still being done. A panic of
// the step is an error, as one of the whole work is.
func beside(ctx context.Context, step string, do func(context.Context) error) (wait func() error) {
	ended := make(chan struct{})
	var err error
	go func() {
		defer close(ended)
		_, err = caught(ctx, step, func(ctx context.Context) (string, error) { return "", do(ctx) })
	}()
	return func() error {
		<-ended
		return err
	}
}
