// SPDX-License-Identifier: Apache-2.0

package image

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// fsImmutable is FS_IMMUTABLE_FL of linux/fs.h: no write, rename, link, unlink or change of
// mode and owner, not even by root.
const fsImmutable = 0x10

// setImmutable sets or clears the immutable flag of a file. It does nothing, without an
// error, where the file system has no flags or the process may not set them.
func setImmutable(path string, on bool) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	err = changeFlags(f, on)
	return errors.Join(err, f.Close())
}

func changeFlags(f *os.File, on bool) error {
	flags, err := unix.IoctlGetInt(int(f.Fd()), unix.FS_IOC_GETFLAGS)
	if err != nil {
		return ignoreUnable(err)
	}
	want := flags &^ fsImmutable
	if on {
		want |= fsImmutable
	}
	if want == flags {
		return nil
	}
	return ignoreUnable(unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, want))
}

func ignoreUnable(err error) error {
	for _, unable := range []error{unix.ENOTTY, unix.EOPNOTSUPP, unix.ENOSYS, unix.EINVAL, unix.EPERM, unix.EACCES} {
		if errors.Is(err, unable) {
			return nil
		}
	}
	return err
}
