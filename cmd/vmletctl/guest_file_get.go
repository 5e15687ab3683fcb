// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
)

// stdio is what stands for standard input or output in place of a file.
const stdio = "-"

func (a *app) guestFileGetCommand() *cobra.Command {
	var offset, limit int64
	cmd := &cobra.Command{
		Use:   "get POD PATH [LOCAL|-]",
		Short: "Copy a file out of a guest",
		Long: `Copies a regular file of a guest to a local file, by default to one of its name here, or to
stdout for -. A local file that is there is replaced once the copy is whole.`,
		Example: `  vmletctl guest file get web /etc/os-release -
  vmletctl guest file get web /var/log/syslog --offset 1048576 syslog.part`,
		Args: cobra.RangeArgs(2, 3),
		RunE: a.connected(func(ctx context.Context, c *client, args []string) error {
			if offset < 0 || limit < 0 {
				return usageError{"vmletctl guest file get", fmt.Errorf("--offset and --limit must not be negative")}
			}
			t, err := c.find(ctx, args[0])
			if err != nil {
				return err
			}
			req := &vmletv1.ReadGuestFileRequest{Vm: t.sandbox.GetId(), Path: args[1], OffsetBytes: offset, LimitBytes: limit}
			local := filepath.Base(args[1])
			if len(args) == 3 {
				local = args[2]
			}
			return a.getFile(ctx, c, req, local)
		}),
	}
	cmd.Flags().Int64Var(&offset, "offset", 0, "`BYTES` to leave out at its beginning")
	cmd.Flags().Int64Var(&limit, "limit", 0, "most `BYTES` to copy (default: all)")
	return cmd
}

func (a *app) getFile(ctx context.Context, c *client, req *vmletv1.ReadGuestFileRequest, local string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // a stream that is not read to its end goes on
	stream, err := c.vms.ReadGuestFile(ctx, req)
	if err != nil {
		return err
	}
	msg, err := stream.Recv()
	if err != nil {
		return cmp.Or(notEOF(err), errors.New("vmlet has told nothing of the file"))
	}
	total := max(0, msg.GetFile().GetSizeBytes()-req.GetOffsetBytes())
	if req.GetLimitBytes() > 0 {
		total = min(total, req.GetLimitBytes())
	}
	told := a.newProgress()
	told.terminal = told.terminal && (local != stdio || !isTerminal(a.out)) // it would stand amidst the content
	copyTo := func(w io.Writer) error {
		return receiveChunks(stream.Recv, w, func(done int64) { told.copying(req.GetPath(), done, total) })
	}
	defer told.end()
	if local == stdio {
		return copyTo(a.out)
	}
	return replaceFile(local, copyTo)
}

// copying tells how far a copy is, on a terminal only.
func (p *progress) copying(path string, done, total int64) {
	if p.terminal {
		p.show("copying "+path, done, total)
	}
}

func notEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// receiveChunks writes all chunks to a writer, and tells how many bytes they were.
func receiveChunks(recv func() (*vmletv1.ReadGuestFileResponse, error), w io.Writer, told func(done int64)) error {
	for done := int64(0); ; {
		msg, err := recv()
		if err != nil {
			return notEOF(err)
		}
		n, err := w.Write(msg.GetChunk())
		if err != nil {
			return err
		}
		done += int64(n)
		told(done)
	}
}

// replaceFile writes a local file, whole or not at all. What is no regular file, such as a pipe, is written to as it is.
func replaceFile(path string, write func(io.Writer) error) error {
	info, err := os.Stat(path)
	switch {
	case err == nil && info.IsDir():
		return fmt.Errorf("%s is a folder; tell the name of a file in it", path)
	case err == nil && !info.Mode().IsRegular():
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		return errors.Join(write(f), f.Close())
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".vmletctl-*") // nobody else's to read: who knows what it is
	if err != nil {
		return err
	}
	err = write(f)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}
