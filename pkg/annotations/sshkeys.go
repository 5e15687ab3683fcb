// SPDX-License-Identifier: Apache-2.0

package annotations

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/vmlet/vmlet/pkg/vm"
)

// parseSSHKeys reads lines as sshd(8) describes them under AUTHORIZED_KEYS FILE FORMAT.
func parseSSHKeys(value string, o *vm.Overrides) error {
	n := 0
	for line := range strings.Lines(value) {
		n++
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if !IsPublicKey(line) {
			return fmt.Errorf("line %d is no public key", n)
		}
		o.SSHKeys = append(o.SSHKeys, line)
	}
	return nil
}

// IsPublicKey reports whether it is one line that holds, maybe after options, the name of a key type
// and a blob in base64 that begins with the same name (RFC 4253 6.6). The rest of the blob
// is sshd's to judge. Blanks within an option's quotes make fields that are no blob.
func IsPublicKey(line string) bool {
	if strings.ContainsAny(line, "\r\n\x00") {
		return false
	}
	fields := strings.Fields(line)
	for i := range len(fields) - 1 {
		blob, err := base64.StdEncoding.DecodeString(fields[i+1])
		if err != nil || len(blob) < 4 {
			continue
		}
		size := binary.BigEndian.Uint32(blob)
		if name := blob[4:]; uint64(size) < uint64(len(name)) && string(name[:size]) == fields[i] {
			return true
		}
	}
	return false
}
