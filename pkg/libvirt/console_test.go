// SPDX-License-Identifier: Apache-2.0

package libvirt

import "testing"

func TestConsoleDevice(t *testing.T) {
	for name, tt := range map[string]struct{ serial, want string }{
		"the pty that QEMU got":       {`<serial type='pty'><source path='/dev/pts/7'/><target port='0'/></serial>`, "/dev/pts/7"},
		"none while it is not active": {`<serial type='pty'><target port='0'/></serial>`, ""},
		"none of another kind":        {`<serial type='file'><source path='/dev/pts/7'/><target port='0'/></serial>`, ""},
		"none that is no pty of ours": {`<serial type='pty'><source path='/dev/sda'/><target port='0'/></serial>`, ""},
		"none where there is no port": {``, ""},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := consoleDevice(`<domain type='qemu'><devices>` + tt.serial + `</devices></domain>`)
			if got != tt.want || (err == nil) != (tt.want != "") {
				t.Errorf("got %q, %v, want %q", got, err, tt.want)
			}
		})
	}
}
