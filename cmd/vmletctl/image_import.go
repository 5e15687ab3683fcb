// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
)

// importChunk is the most that vmlet.v1 allows in one message, in bytes.
const importChunk = 1 << 20

func (a *app) imageImportCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "import FILE NAME",
		Short: "Store a disk file as an image",
		Long: `Stores a disk file, qcow2 or raw, as an image on this node. FILE may be - for stdin. An
image that has the name already loses it to the new one.`,
		Example: `  vmletctl image import debian-12.qcow2 debian:12
  zstd -dc disk.raw.zst | vmletctl image import - mine`,
		Args: cobra.ExactArgs(2),
		RunE: a.connected(func(ctx context.Context, c *client, args []string) error {
			in, total, err := a.open(args[0])
			if err != nil {
				return err
			}
			defer in.Close() //nolint:errcheck // it was only read
			told := a.newProgress()
			img, err := importImage(ctx, c, args[1], in, func(done int64) { told.show("importing "+args[1], done, total) })
			told.end()
			if err != nil {
				return err
			}
			return a.printImage(img)
		}),
	}
}

// open opens a file to read, or stdin for -. total is its size in bytes, 0 if that is not
// known.
func (a *app) open(name string) (f io.ReadCloser, total int64, err error) {
	if name == "-" {
		return io.NopCloser(a.in), 0, nil
	}
	file, err := os.Open(name)
	if err != nil {
		return nil, 0, err
	}
	info, err := file.Stat()
	if err == nil && info.IsDir() {
		err = fmt.Errorf("%s is a folder, not a file", name)
	}
	if err != nil {
		return nil, 0, errors.Join(err, file.Close())
	}
	if info.Mode().IsRegular() {
		total = info.Size()
	}
	return file, total, nil
}

func importImage(ctx context.Context, c *client, name string, in io.Reader, sent func(done int64)) (*vmletv1.Image, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // a stream that is not closed is a disk that is not stored
	stream, err := c.store.ImportImage(ctx)
	if err != nil {
		return nil, err
	}
	err = stream.Send(&vmletv1.ImportImageRequest{Part: &vmletv1.ImportImageRequest_Name{Name: name}})
	if err == nil {
		err = sendChunks(stream, in, sent)
	}
	if err != nil && !errors.Is(err, io.EOF) { // io.EOF: vmlet has ended the stream, and says why below
		return nil, err
	}
	resp, err := stream.CloseAndRecv()
	if err != nil {
		return nil, err
	}
	return resp.GetImage(), nil
}

// sendChunks sends all of in. It returns io.EOF when the server takes no more.
func sendChunks(
	stream grpc.ClientStreamingClient[vmletv1.ImportImageRequest, vmletv1.ImportImageResponse], in io.Reader, sent func(done int64),
) error {
	var done int64
	for buf := make([]byte, importChunk); ; {
		n, err := io.ReadFull(in, buf)
		if n > 0 {
			msg := &vmletv1.ImportImageRequest{Part: &vmletv1.ImportImageRequest_Chunk{Chunk: buf[:n]}}
			if err := stream.Send(msg); err != nil {
				return err
			}
			done += int64(n)
			sent(done)
		}
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return nil
		case err != nil:
			return fmt.Errorf("read the disk: %w", err)
		}
	}
}
