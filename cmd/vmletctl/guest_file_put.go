// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"

	"github.com/spf13/cobra"

	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
)

// fileChunk is how much of a file goes in one message, in bytes; vmlet.v1 allows four times as much.
const fileChunk = 256 << 10

func (a *app) guestFilePutCommand() *cobra.Command {
	var mode string
	first := &vmletv1.WriteGuestFileRequest{}
	cmd := &cobra.Command{
		Use:   "put POD LOCAL|- PATH",
		Short: "Copy a file into a guest",
		Long: `Copies a local file, or stdin for -, to an absolute path in a guest, whole or not at all. By
default it is root's, has the mode of the local file (0644 for stdin), and must not be there
yet.`,
		Example: `  vmletctl guest file put web nginx.conf /etc/nginx/nginx.conf --overwrite
  echo secret | vmletctl guest file put web - /etc/token --mode 0600 --uid 33 --gid 33`,
		Args: cobra.ExactArgs(3),
		RunE: a.connected(func(ctx context.Context, c *client, args []string) error {
			perm, err := strconv.ParseUint(mode, 8, 12)
			if mode != "" && err != nil {
				return usageError{"vmletctl guest file put", fmt.Errorf("--mode %q is no mode such as 0644", mode)}
			}
			t, err := c.find(ctx, args[0])
			if err != nil {
				return err
			}
			in, total, err := a.open(args[1])
			if err != nil {
				return err
			}
			defer in.Close() //nolint:errcheck // it was only read
			bits := uint32(perm)
			if f, ok := in.(*os.File); mode == "" && ok {
				bits, err = permOf(f)
				if err != nil {
					return err
				}
			} else if mode == "" {
				bits = 0o644
			}
			first.Vm, first.Path, first.Mode = t.sandbox.GetId(), args[2], &bits
			told := a.newProgress()
			defer told.end()
			return putFile(ctx, c, first, in, func(done int64) { told.copying(args[2], done, total) })
		}),
	}
	flags := cmd.Flags()
	flags.StringVar(&mode, "mode", "", "its permission bits, in octal `DIGITS` (default: those of the local file)")
	flags.Uint32Var(&first.Uid, "uid", 0, "`NUMBER` of the user that is to own it")
	flags.Uint32Var(&first.Gid, "gid", 0, "`NUMBER` of its group")
	flags.BoolVar(&first.Overwrite, "overwrite", false, "replace a file that is there")
	flags.BoolVar(&first.Parents, "parents", false, "make folders that are missing")
	return cmd
}

// permOf is the permission of a local file; set-user-ID and the like are not for another machine.
func permOf(f *os.File) (uint32, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return uint32(info.Mode().Perm()), nil
}

// putFile sends a file. A stream that is not closed is a file that is not written.
func putFile(ctx context.Context, c *client, first *vmletv1.WriteGuestFileRequest, in io.Reader, sent func(done int64)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.vms.WriteGuestFile(ctx)
	if err != nil {
		return err
	}
	err = stream.Send(first)
	for done, buf := int64(0), make([]byte, fileChunk); err == nil; {
		n, readErr := io.ReadFull(in, buf)
		if n > 0 {
			err = stream.Send(&vmletv1.WriteGuestFileRequest{Chunk: buf[:n]})
		}
		done += int64(n)
		sent(done)
		switch {
		case errors.Is(readErr, io.EOF), errors.Is(readErr, io.ErrUnexpectedEOF):
			_, err = stream.CloseAndRecv()
			return err
		case readErr != nil:
			return fmt.Errorf("read the local file: %w", readErr)
		}
	}
	if !errors.Is(err, io.EOF) {
		return err
	}
	_, err = stream.CloseAndRecv() // vmlet has ended the stream, and says why
	return err
}
