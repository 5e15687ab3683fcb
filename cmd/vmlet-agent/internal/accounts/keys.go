// SPDX-License-Identifier: Apache-2.0

package accounts

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	agentv1 "github.com/vmlet/vmlet/proto/agent/v1"
)

const (
	// folder and keysFile are where sshd looks, below a user's home.
	folder   = ".ssh"
	keysFile = folder + "/authorized_keys"
	// maxKeys is the most lines that are set or told, maxContent the most bytes of the file.
	maxKeys    = 1000
	maxContent = 256 << 10
)

// Keys returns the lines of a user's authorized_keys without blank ones and comments, none where there is no file.
func (Accounts) Keys(name string) (keys []string, err error) {
	a, err := lookup(name)
	if err != nil {
		return nil, err
	}
	err = a.atHome(func(home *os.Root) error {
		content, err := read(home)
		keys = lines(content)
		return err
	})
	if err == nil && len(keys) > maxKeys {
		err = fmt.Errorf("~%s/%s has %d keys, at most %d are told: %w", name, keysFile, len(keys), maxKeys, errdefs.ErrFailedPrecondition)
	}
	return keys, err
}

// SetKeys changes a user's authorized_keys, whole or not at all.
func (Accounts) SetKeys(req *agentv1.SetKeysRequest) error {
	change := changes[req.GetMode()]
	if change == nil || len(req.GetLines()) > maxKeys {
		return fmt.Errorf("mode %v, %d keys: %w", req.GetMode(), len(req.GetLines()), errdefs.ErrInvalidArgument)
	}
	for i, line := range req.GetLines() {
		if strings.TrimSpace(line) == "" || strings.ContainsAny(line, "\r\n\x00") {
			return fmt.Errorf("key %d is blank or has more than one line: %w", i+1, errdefs.ErrInvalidArgument)
		}
	}
	a, err := lookup(req.GetUser())
	if err != nil {
		return err
	}
	return a.atHome(func(home *os.Root) error {
		content, err := read(home)
		if err != nil && req.GetMode() != agentv1.SetKeysRequest_REPLACE {
			return err
		}
		content = change(content, req.GetLines())
		if len(content) > maxContent {
			return fmt.Errorf("%s would have %d bytes, at most %d: %w", keysFile, len(content), maxContent, errdefs.ErrInvalidArgument)
		}
		return write(home, content)
	})
}

// changes make another content of one.
var changes = map[agentv1.SetKeysRequest_Mode]func(content string, keys []string) string{
	agentv1.SetKeysRequest_REPLACE: func(_ string, keys []string) string { return unlines(keys) },
	agentv1.SetKeysRequest_ADD: func(content string, keys []string) string {
		there := idsOf(lines(content))
		if content != "" && !strings.HasSuffix(content, "\n") {
			content += "\n"
		}
		for _, key := range keys {
			if !there[keyID(key)] {
				there[keyID(key)] = true
				content += unlines([]string{key})
			}
		}
		return content
	},
	agentv1.SetKeysRequest_REMOVE: func(content string, keys []string) string {
		gone, kept := idsOf(keys), ""
		for line := range strings.Lines(content) {
			if !gone[keyID(line)] {
				kept += line
			}
		}
		return kept
	},
}

func unlines(keys []string) string {
	var content strings.Builder
	for _, key := range keys {
		content.WriteString(strings.TrimSpace(key) + "\n")
	}
	return content.String()
}

// lines returns the lines of a file that are keys, or meant to be.
func lines(content string) (keys []string) {
	for line := range strings.Lines(content) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			keys = append(keys, line)
		}
	}
	return keys
}

func idsOf(keys []string) map[string]bool {
	ids := map[string]bool{}
	for _, key := range keys {
		ids[keyID(key)] = true
	}
	return ids
}

// keyBlob is how the blob of any key begins, in base64: with three zeros of the length of its type's name.
const keyBlob = "AAAA"

// keyID is what makes a line the same key as another one: its type and its blob, without options and what is said of it.
// A line in which none are found is itself, and so is a comment.
func keyID(line string) string {
	fields := strings.Fields(line)
	for i := 1; i < len(fields) && !strings.HasPrefix(fields[0], "#"); i++ {
		if strings.HasPrefix(fields[i], keyBlob) {
			return fields[i-1] + " " + fields[i]
		}
	}
	return strings.Join(fields, " ")
}

// read returns the file's content, "" where there is none.
func read(home *os.Root) (string, error) {
	// Without waiting: it may be a pipe.
	f, err := home.OpenFile(keysFile, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", unfit(err)
	}
	defer f.Close() //nolint:errcheck // read only
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return "", unfit(errors.Join(err, fmt.Errorf("%s is not a regular file", keysFile)))
	}
	content, err := io.ReadAll(io.LimitReader(f, maxContent+1))
	if err == nil && len(content) > maxContent {
		err = fmt.Errorf("%s has more than %d bytes", keysFile, maxContent)
	}
	if err != nil {
		return "", unfit(err)
	}
	return string(content), nil
}

// write puts a new file in the place of the one that is there.
func write(home *os.Root, content string) error {
	if err := makeFolder(home); err != nil {
		return unfit(err)
	}
	temp := folder + "/.vmlet-" + rand.Text()
	f, err := home.OpenFile(temp, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return unfit(err)
	}
	_, err = f.WriteString(content)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = home.Rename(temp, keysFile)
	}
	if err != nil {
		return unfit(errors.Join(err, home.Remove(temp)))
	}
	return nil
}

// makeFolder makes sure that there is the folder, and that sshd trusts it: nobody else may write to it.
func makeFolder(home *os.Root) error {
	err := home.Mkdir(folder, 0o700)
	if err == nil || !errors.Is(err, fs.ErrExist) {
		return err
	}
	info, err := home.Stat(folder)
	if err != nil {
		return err
	}
	if info.Mode().Perm()&0o022 != 0 {
		return home.Chmod(folder, info.Mode().Perm()&^0o022)
	}
	return nil
}

// unfit is the error for a home in which there can be no keys: the user can mend it.
func unfit(err error) error { return fmt.Errorf("%w: %w", err, errdefs.ErrFailedPrecondition) }
