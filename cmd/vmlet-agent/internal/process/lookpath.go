// SPDX-License-Identifier: Apache-2.0

package process

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// DefaultPath is PATH where the environment has none.
const DefaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// environ returns the environment with PATH, HOME and, for a terminal, TERM.
func environ(env []string, home string, tty bool) []string {
	defaults := []string{"PATH=" + DefaultPath, "HOME=" + home}
	if tty {
		defaults = append(defaults, "TERM=xterm")
	}
	out := append(make([]string, 0, len(env)+len(defaults)), env...)
	for _, d := range defaults {
		key, _, _ := strings.Cut(d, "=")
		if _, ok := value(env, key); !ok {
			out = append(out, d)
		}
	}
	return out
}

func value(env []string, key string) (v string, ok bool) {
	for _, e := range env {
		if k, val, _ := strings.Cut(e, "="); k == key {
			v, ok = val, true
		}
	}
	return v, ok
}

// lookPath finds a program as execvp(3) does, in the calling thread's working directory.
func lookPath(name string, env []string) (string, error) {
	if strings.Contains(name, "/") {
		return name, executable(name)
	}
	path, _ := value(env, "PATH")
	found := error(syscall.ENOENT)
	for _, dir := range filepath.SplitList(path) {
		if dir == "" {
			dir = "."
		}
		file := filepath.Join(dir, name)
		if !strings.Contains(file, "/") {
			file = "./" + file
		}
		err := executable(file)
		if err == nil {
			return file, nil
		}
		if errors.Is(err, fs.ErrPermission) {
			found = syscall.EACCES
		}
	}
	return "", &fs.PathError{Op: "exec", Path: name, Err: found}
}

func executable(file string) error {
	info, err := os.Stat(file)
	if err != nil {
		return &fs.PathError{Op: "exec", Path: file, Err: errors.Unwrap(err)}
	}
	if info.IsDir() || info.Mode()&0o111 == 0 {
		return &fs.PathError{Op: "exec", Path: file, Err: syscall.EACCES}
	}
	return nil
}
