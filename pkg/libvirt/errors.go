// SPDX-License-Identifier: Apache-2.0

package libvirt

import (
	"errors"
	"fmt"
	"strings"

	"github.com/containerd/errdefs"
	virt "libvirt.org/go/libvirt"
)

// classes maps libvirt's error codes (https://libvirt.org/html/libvirt-virterror.html) to
// errdefs classes. A code that is not here is unexpected and stays without a class.
var classes = map[virt.ErrorNumber]error{
	virt.ERR_NO_DOMAIN:          errdefs.ErrNotFound,
	virt.ERR_NO_DOMAIN_METADATA: errdefs.ErrNotFound,
	virt.ERR_DOM_EXIST:          errdefs.ErrAlreadyExists,

	// "domain is already running", "domain is not running"
	virt.ERR_OPERATION_INVALID: errdefs.ErrFailedPrecondition,
	// This host's QEMU lacks what the machine asks for.
	virt.ERR_CONFIG_UNSUPPORTED: errdefs.ErrFailedPrecondition,

	virt.ERR_INVALID_ARG:        errdefs.ErrInvalidArgument,
	virt.ERR_XML_ERROR:          errdefs.ErrInvalidArgument,
	virt.ERR_XML_DETAIL:         errdefs.ErrInvalidArgument,
	virt.ERR_XML_INVALID_SCHEMA: errdefs.ErrInvalidArgument,

	virt.ERR_NO_SUPPORT:            errdefs.ErrNotImplemented,
	virt.ERR_OPERATION_UNSUPPORTED: errdefs.ErrNotImplemented,
	virt.ERR_ARGUMENT_UNSUPPORTED:  errdefs.ErrNotImplemented,

	virt.ERR_NO_CONNECT:         errdefs.ErrUnavailable,
	virt.ERR_INVALID_CONN:       errdefs.ErrUnavailable,
	virt.ERR_RPC:                errdefs.ErrUnavailable,
	virt.ERR_AGENT_UNRESPONSIVE: errdefs.ErrUnavailable,
	virt.ERR_AGENT_UNSYNCED:     errdefs.ErrUnavailable,
	// Another job holds the domain and did not finish in libvirt's 30 s.
	virt.ERR_OPERATION_TIMEOUT: errdefs.ErrUnavailable,
	virt.ERR_RESOURCE_BUSY:     errdefs.ErrUnavailable,

	virt.ERR_OPERATION_ABORTED: errdefs.ErrAborted,
	virt.ERR_NO_MEMORY:         errdefs.ErrResourceExhausted,

	virt.ERR_AUTH_FAILED:      errdefs.ErrPermissionDenied,
	virt.ERR_AUTH_CANCELLED:   errdefs.ErrPermissionDenied,
	virt.ERR_AUTH_UNAVAILABLE: errdefs.ErrPermissionDenied,
	virt.ERR_ACCESS_DENIED:    errdefs.ErrPermissionDenied,
	virt.ERR_OPERATION_DENIED: errdefs.ErrPermissionDenied,
}

// classify gives an error that holds one of libvirt's its class. Other errors, which have
// a class or are not libvirt's, stay as they are.
func classify(err error) error {
	lerr, ok := errors.AsType[virt.Error](err)
	if !ok {
		return err
	}
	if class, ok := classes[lerr.Code]; ok {
		return fmt.Errorf("%s: %w", plainText(err), class)
	}
	return fmt.Errorf("%s (libvirt error %d)", plainText(err), int(lerr.Code))
}

// plainText is the error's text with libvirt's message instead of the binding's dump.
func plainText(err error) string {
	lerr, ok := errors.AsType[virt.Error](err)
	if !ok {
		return err.Error()
	}
	return strings.Replace(err.Error(), lerr.Error(), lerr.Message, 1)
}

// hasCode tells whether err is libvirt's error of this code, before classification.
func hasCode(err error, code virt.ErrorNumber) bool {
	lerr, ok := errors.AsType[virt.Error](err)
	return ok && lerr.Code == code
}

// isAbsent tells, before or after classification, whether err is for want of a domain.
func isAbsent(err error) bool { return errdefs.IsNotFound(classify(err)) }

// What our own checks of a domain's state say.
var (
	errNotActive  = fmt.Errorf("the domain is not active: %w", errdefs.ErrFailedPrecondition)
	errNotRunning = fmt.Errorf("the CPUs of the domain do not run: %w", errdefs.ErrFailedPrecondition)
	errActive     = fmt.Errorf("the domain is active: %w", errdefs.ErrFailedPrecondition)
)
