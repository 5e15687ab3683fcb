// SPDX-License-Identifier: Apache-2.0

package command

import (
	"fmt"
	"strconv"
	"strings"
	"syscall"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// Real-time signals as C libraries number them: they keep the first two for themselves.
const (
	sigRTMin = 34
	sigRTMax = 64
)

// signalNumber returns the signal of a name as in the CRI's Signal: "SIGTERM", "SIGRTMIN+3".
// A missing "SIG" and numbers are understood too.
func signalNumber(name string) (syscall.Signal, error) {
	full := strings.ToUpper(name)
	if !strings.HasPrefix(full, "SIG") {
		full = "SIG" + full
	}
	if n := unix.SignalNum(full); n != 0 {
		return n, nil
	}
	number, base := full[len("SIG"):], 0
	for prefix, first := range map[string]int{"RTMIN": sigRTMin, "RTMAX": sigRTMax} {
		if rest, ok := strings.CutPrefix(number, prefix); ok {
			number, base = rest, first
			if rest == "" {
				number = "+0"
			}
		}
	}
	n, err := strconv.Atoi(number)
	signed := strings.HasPrefix(number, "+") || strings.HasPrefix(number, "-")
	if n += base; err != nil || signed != (base != 0) || n < 1 || n > sigRTMax || base != 0 && n < sigRTMin {
		return 0, fmt.Errorf("signal %.32q is not known: %w", name, errdefs.ErrInvalidArgument)
	}
	return syscall.Signal(n), nil
}
