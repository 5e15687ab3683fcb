// SPDX-License-Identifier: Apache-2.0

package libvirt

import (
	"errors"
	"fmt"
	"testing"

	"github.com/containerd/errdefs"
	virt "libvirt.org/go/libvirt"
)

func TestErrorsOfLibvirtGetTheirClass(t *testing.T) {
	for code, want := range map[virt.ErrorNumber]error{
		virt.ERR_NO_DOMAIN:          errdefs.ErrNotFound,
		virt.ERR_OPERATION_INVALID:  errdefs.ErrFailedPrecondition,
		virt.ERR_CONFIG_UNSUPPORTED: errdefs.ErrFailedPrecondition,
		virt.ERR_XML_ERROR:          errdefs.ErrInvalidArgument,
		virt.ERR_NO_SUPPORT:         errdefs.ErrNotImplemented,
		virt.ERR_NO_CONNECT:         errdefs.ErrUnavailable,
		virt.ERR_AGENT_UNRESPONSIVE: errdefs.ErrUnavailable,
		virt.ERR_OPERATION_TIMEOUT:  errdefs.ErrUnavailable,
		virt.ERR_RESOURCE_BUSY:      errdefs.ErrUnavailable,
		virt.ERR_OPERATION_ABORTED:  errdefs.ErrAborted,
		virt.ERR_NO_MEMORY:          errdefs.ErrResourceExhausted,
		virt.ERR_AUTH_FAILED:        errdefs.ErrPermissionDenied,
	} {
		err := classify(fmt.Errorf("start it: %w", virt.Error{Code: code, Message: "no luck"}))
		if !errors.Is(err, want) {
			t.Errorf("code %d: %v is not %v", code, err, want)
		}
	}
}

func TestErrorTextIsLibvirtsMessageInItsContext(t *testing.T) {
	err := classify(fmt.Errorf("start it: %w", virt.Error{Code: virt.ERR_NO_DOMAIN, Message: "no such domain"}))
	if want := "start it: no such domain: not found"; err.Error() != want {
		t.Errorf("got %q, want %q", err, want)
	}
}

func TestUnknownErrorHasNoClassButItsNumber(t *testing.T) {
	err := classify(virt.Error{Code: virt.ERR_INTERNAL_ERROR, Message: "oops"})
	if want := "oops (libvirt error 1)"; err.Error() != want {
		t.Errorf("got %q, want %q", err, want)
	}
	for _, class := range classes {
		if errors.Is(err, class) {
			t.Errorf("%v is %v", err, class)
		}
	}
}

func TestErrorsOfOursAreLeftAlone(t *testing.T) {
	if got := classify(errActive); !errors.Is(got, errActive) || got.Error() != errActive.Error() {
		t.Errorf("got %v", got)
	}
}
