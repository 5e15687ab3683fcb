// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
)

type vncStream = grpc.BidiStreamingClient[vmletv1.VNCRequest, vmletv1.VNCResponse]

func (a *app) vncCommand() *cobra.Command {
	var listen string
	cmd := &cobra.Command{
		Use:   "vnc POD",
		Short: "Let a VNC viewer see a VM's screen",
		Long: `Listens on a port of this host's loopback, prints its address, and connects one viewer after
another to the VM's screen and keyboard, until Ctrl-C or the end of the VM. There is no
password: whoever is on this host can connect meanwhile. VNC is off until vmlet's
configuration says "defaults: {vnc: true}".`,
		Example: `  vmletctl vnc web
  vmletctl vnc --listen 127.0.0.1:5901 web   # then: vncviewer 127.0.0.1:1`,
		Args: cobra.ExactArgs(1),
		RunE: a.connected(func(ctx context.Context, c *client, args []string) error {
			address, err := netip.ParseAddrPort(listen)
			switch {
			case err != nil:
				return usageError{"vmletctl vnc", fmt.Errorf("--listen %q is not IP:PORT", listen)}
			case !address.Addr().IsLoopback():
				return usageError{"vmletctl vnc", fmt.Errorf("--listen %s: it is not on loopback, and VNC has no password; come by ssh -L", listen)}
			}
			t, err := c.find(ctx, args[0])
			if err != nil {
				return err
			}
			return a.vnc(ctx, c, t.sandbox.GetId(), address)
		}),
	}
	cmd.Flags().StringVar(&listen, "listen", "127.0.0.1:0", "`IP:PORT` on loopback; port 0 is one that is free")
	return cmd
}

// vnc lets viewers in until ctx ends, which is no error, or the VM does.
func (a *app) vnc(ctx context.Context, c *client, vm string, address netip.AddrPort) error {
	if err := tryVNC(ctx, c, vm); err != nil { // said now, and not to the first viewer
		return err
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", address.String())
	if err != nil {
		return err
	}
	defer listener.Close()                                          //nolint:errcheck // nothing was written to it
	stop := context.AfterFunc(ctx, func() { _ = listener.Close() }) //nolint:errcheck // the same
	defer stop()
	if _, err := fmt.Fprintf(a.out, "vnc://%s\n", listener.Addr()); err != nil {
		return err
	}
	for {
		viewer, err := listener.Accept()
		if err == nil {
			err = view(ctx, c, vm, viewer)
		}
		if err == nil { // who has ended, the viewer or the VM?
			err = tryVNC(ctx, c, vm)
		}
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// dialVNC returns when vmlet has connected to the VM's server. The stream ends with ctx.
func dialVNC(ctx context.Context, c *client, vm string) (vncStream, error) {
	stream, err := c.vms.VNC(ctx)
	if err != nil {
		return nil, err
	}
	err = stream.Send(&vmletv1.VNCRequest{Vm: vm})
	if err == nil || errors.Is(err, io.EOF) { // io.EOF: Recv says why
		_, err = stream.Recv()
	}
	return stream, err
}

func tryVNC(ctx context.Context, c *client, vm string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	_, err := dialVNC(ctx, c, vm)
	return err
}

// view connects one viewer, until it or the VM ends.
func view(ctx context.Context, c *client, vm string, viewer net.Conn) error {
	defer viewer.Close() //nolint:errcheck // one of the two has ended before
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = viewer.Close() }) //nolint:errcheck // it only has to end
	defer stop()
	stream, err := dialVNC(ctx, c, vm)
	if err != nil {
		return err
	}
	go func() {
		defer cancel()
		for b := make([]byte, 64<<10); ; {
			n, err := viewer.Read(b)
			if err != nil || stream.Send(&vmletv1.VNCRequest{Data: b[:n]}) != nil {
				return // the viewer has gone, or the other direction hears why not
			}
		}
	}()
	for {
		msg, err := stream.Recv()
		switch {
		case errors.Is(err, io.EOF), ctx.Err() != nil:
			return nil
		case err != nil:
			return err
		}
		if _, err := viewer.Write(msg.GetData()); err != nil {
			return nil // the viewer has gone
		}
	}
}
