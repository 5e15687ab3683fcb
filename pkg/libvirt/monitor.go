// SPDX-License-Identifier: Apache-2.0

package libvirt

import (
	"encoding/json"
	"fmt"

	"github.com/containerd/errdefs"
	virt "libvirt.org/go/libvirt"
)

// QEMU is spoken to past libvirt for two things: to take back what a libvirtd that died in the middle of a call has left or begun there, and
// the next one knows nothing of, where something was left; and to ask for its translation cache (roomToTranslate).

// classNotFound is QEMU's answer about a device that it does not have.
const classNotFound = "DeviceNotFound"

// refusal is QEMU's; empty if it did as it was told.
type refusal struct {
	Class string `json:"class"`
	Desc  string `json:"desc"`
}

// askMonitor has QEMU execute a command, and reads its answer into out, nil for none.
func askMonitor(dom *virt.Domain, command string, arguments map[string]any, out any) (refusal, error) {
	request := map[string]any{"execute": command}
	if len(arguments) > 0 {
		request["arguments"] = arguments
	}
	text, err := json.Marshal(request)
	if err != nil {
		return refusal{}, err
	}
	reply, err := dom.QemuMonitorCommand(string(text), virt.DOMAIN_QEMU_MONITOR_COMMAND_DEFAULT)
	if err != nil {
		return refusal{}, err
	}
	answer := struct {
		Return any     `json:"return"`
		Error  refusal `json:"error"`
	}{Return: out}
	if err := json.Unmarshal([]byte(reply), &answer); err != nil {
		return refusal{}, fmt.Errorf("QEMU's answer to %s: %w", command, err)
	}
	return answer.Error, nil
}

// order is askMonitor for what QEMU has no reason to refuse: a refusal is Unavailable.
func order(dom *virt.Domain, command string, arguments map[string]any, out any) error {
	answer, err := askMonitor(dom, command, arguments, out)
	if err == nil && answer.Class != "" {
		err = fmt.Errorf("QEMU refuses %s: %s: %w", command, answer.Desc, errdefs.ErrUnavailable)
	}
	return err
}

// dropDevice asks the guest to let go of a device; gone if there is none.
func dropDevice(dom *virt.Domain, id string) (gone bool, err error) {
	answer, err := askMonitor(dom, "device_del", map[string]any{"id": id}, nil)
	return err == nil && answer.Class == classNotFound, err
}
