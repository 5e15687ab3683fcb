// SPDX-License-Identifier: Apache-2.0

package libvirt

import (
	"context"
	"errors"
	"fmt"
	"strings"

	virt "libvirt.org/go/libvirt"
	"libvirt.org/go/libvirtxml"
)

// ConsoleDevice implements lifecycle.Hypervisor.
func (h *Hypervisor) ConsoleDevice(ctx context.Context, id string) (string, error) {
	const operation = "find the console of domain"
	text := ""
	err := h.with(ctx, operation, id, func(dom *virt.Domain) (err error) {
		if err := requireActive(dom); err != nil {
			return err
		}
		text, err = dom.GetXMLDesc(0)
		return err
	})
	if err != nil {
		return "", err
	}
	path, err := consoleDevice(text)
	if err != nil {
		return "", fmt.Errorf("%s %s: %w", operation, id, err)
	}
	return path, nil
}

// consoleDevice reads from an active domain's XML which pty QEMU got for the serial port.
func consoleDevice(text string) (string, error) {
	var def libvirtxml.Domain
	if err := def.Unmarshal(text); err != nil {
		return "", fmt.Errorf("read its XML: %w", err)
	}
	if def.Devices != nil {
		for _, s := range def.Devices.Serials {
			if s.Source != nil && s.Source.Pty != nil && strings.HasPrefix(s.Source.Pty.Path, "/dev/pts/") {
				return s.Source.Pty.Path, nil
			}
		}
	}
	return "", errors.New("it has no serial port with a pty")
}
