// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	vmletv1 "github.com/vmlet/vmlet/proto/vmlet/v1"
)

// operationView is what is told of an operation. Its JSON is for programs: keys are added, none changes.
type operationView struct {
	ID          string     `json:"id"`
	Kind        string     `json:"kind"` // such as snapshot-create
	Subject     string     `json:"subject,omitempty"`
	Namespace   string     `json:"namespace"`
	Pod         string     `json:"pod"`
	PodID       string     `json:"podID"`
	State       string     `json:"state"` // running, succeeded, failed or cancelled
	StartedAt   time.Time  `json:"startedAt"`
	EndedAt     *time.Time `json:"endedAt,omitempty"`
	Error       string     `json:"error,omitempty"`
	DoneBytes   int64      `json:"doneBytes,omitempty"`
	TotalBytes  int64      `json:"totalBytes,omitempty"`
	Cancellable bool       `json:"cancellable"`
}

func (a *app) operationsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "operations",
		Short: "List, watch and cancel long work on VMs",
		Long: `Taking, restoring and deleting snapshots and writing checkpoints are operations: they go on when
who asked for them has gone, and over a restart of vmlet, which undoes a checkpoint. An operation
is told by its ID; its beginning is enough.`,
		Args: subcommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },

		SuggestionsMinimumDistance: 2,
	}
	cmd.AddCommand(a.operationsListCommand(), a.operationsWatchCommand(), a.operationsCancelCommand())
	return cmd
}

func (a *app) operationsListCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "ls [POD]",
		Short: "List operations",
		Long: `Lists the operations of a VM, or of all, oldest first: those under way, and the last 16 of each VM
that have ended.`,
		Example: `  vmletctl operations ls
  vmletctl operations ls web -o json | jq -r '.[] | select(.state == "running") | .id'`,
		Args: cobra.MaximumNArgs(1),
		RunE: a.connected(func(ctx context.Context, c *client, args []string) error {
			req := &vmletv1.ListOperationsRequest{}
			if len(args) > 0 {
				t, err := c.find(ctx, args[0])
				if err != nil {
					return err
				}
				req.Vm = t.sandbox.GetId()
			}
			resp, err := c.vms.ListOperations(ctx, req)
			if err != nil {
				return err
			}
			views := make([]operationView, len(resp.GetOperations()))
			for i, o := range resp.GetOperations() {
				views[i] = operationViewOf(o)
			}
			return a.print(views, func(w io.Writer) { a.operationTable(w, views...) })
		}),
	}
}

func (a *app) operationsWatchCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "watch OPERATION",
		Short: "Tell how far an operation is until it has ended",
		Long: `Tells on stderr how far an operation is, and in the end how it ended. One that fails, or is
cancelled, is an error of this command too. -o json prints one object a line.`,
		Example: `  vmletctl operations watch 3f9a`,
		Args:    cobra.ExactArgs(1),
		RunE: a.connected(func(ctx context.Context, c *client, args []string) error {
			if a.output == formatJSON {
				return a.printOperations(ctx, c, args[0])
			}
			o, err := watchOperation(ctx, c, a.newProgress(), args[0])
			if err != nil {
				return err
			}
			v := operationViewOf(o)
			return errors.Join(a.print(v, func(w io.Writer) { a.operationTable(w, v) }), failureOf(o))
		}),
	}
}

func (a *app) operationsCancelCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "cancel OPERATION...",
		Short: "Cancel operations",
		Long: `Cancels operations that can be ended without loss: the memory of a snapshot that is being
written, and checkpoints. Nothing is left of it, and the VM runs on. Others say why they cannot be.`,
		Example: `  vmletctl operations cancel 3f9a`,
		Args:    cobra.MinimumNArgs(1),
		RunE: a.connected(func(ctx context.Context, c *client, args []string) error {
			return a.each(args, func(id string) error {
				_, err := c.vms.CancelOperation(ctx, &vmletv1.CancelOperationRequest{Id: id})
				return err
			})
		}),
	}
}

// watchOperation tells how far an operation is, and returns it when it has ended.
func watchOperation(ctx context.Context, c *client, told *progress, id string) (*vmletv1.Operation, error) {
	defer told.end()
	var last *vmletv1.Operation
	err := receiveOperations(ctx, c, id, func(o *vmletv1.Operation) error {
		last = o
		if o.GetState() == vmletv1.OperationState_OPERATION_STATE_RUNNING {
			told.bar(operationWords(o), o.GetDoneBytes(), o.GetTotalBytes())
		}
		return nil
	})
	return last, err
}

// printOperations prints what is told of an operation, a line each.
func (a *app) printOperations(ctx context.Context, c *client, id string) error {
	var last *vmletv1.Operation
	err := receiveOperations(ctx, c, id, func(o *vmletv1.Operation) error {
		last = o
		return json.NewEncoder(a.out).Encode(operationViewOf(o))
	})
	return cmp.Or(err, failureOf(last))
}

func receiveOperations(ctx context.Context, c *client, id string, do func(*vmletv1.Operation) error) error {
	stream, err := c.vms.WatchOperation(ctx, &vmletv1.WatchOperationRequest{Id: id})
	if err != nil {
		return err
	}
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := do(m.GetOperation()); err != nil {
			return err
		}
	}
}

// begun goes on with a call that was answered with its operation: with detach it prints it, and else waits for its end. A
// vmlet that knows no operations has done the work: o is nil then. waited tells whether the work is done.
func (a *app) begun(ctx context.Context, c *client, o *vmletv1.Operation, detach bool) (waited bool, err error) {
	switch {
	case o == nil:
		return true, nil
	case detach:
		v := operationViewOf(o)
		return false, a.print(v, func(w io.Writer) { a.operationTable(w, v) })
	}
	told := a.newProgress()
	told.show(operationWords(o), 0, 0) // also where it ends before it is watched
	end, err := watchOperation(ctx, c, told, o.GetId())
	if err != nil {
		return false, err
	}
	return true, failureOf(end)
}

// failureOf is why an operation has not done what it was to do.
func failureOf(o *vmletv1.Operation) error {
	switch o.GetState() {
	case vmletv1.OperationState_OPERATION_STATE_SUCCEEDED:
		return nil
	case vmletv1.OperationState_OPERATION_STATE_CANCELLED:
		return fmt.Errorf("%s was cancelled", operationWords(o))
	case vmletv1.OperationState_OPERATION_STATE_FAILED:
		return fmt.Errorf("%s: %s", operationWords(o), o.GetError())
	case vmletv1.OperationState_OPERATION_STATE_RUNNING, vmletv1.OperationState_OPERATION_STATE_UNSPECIFIED:
	}
	return fmt.Errorf("vmlet ended the answer before %s; look at it: vmletctl operations ls", operationWords(o))
}

// operationWords is what an operation does.
func operationWords(o *vmletv1.Operation) string {
	return strings.TrimSpace(o.GetKind()+" "+o.GetSubject()) + " of " + o.GetNamespace() + "/" + o.GetPod()
}

func (a *app) operationTable(w io.Writer, views ...operationView) {
	row(w, "OPERATION", "POD", "KIND", "SUBJECT", "STATE", "DONE", "AGE", "ERROR")
	for _, v := range views {
		row(w, short(v.ID), v.Namespace+"/"+v.Pod, v.Kind, v.Subject, v.State, strings.TrimSpace(amount(v.DoneBytes, v.TotalBytes)),
			age(a.now(), v.StartedAt), v.Error)
	}
}

func operationViewOf(o *vmletv1.Operation) operationView {
	v := operationView{
		ID: o.GetId(), Kind: o.GetKind(), Subject: o.GetSubject(), Namespace: o.GetNamespace(), Pod: o.GetPod(), PodID: o.GetPodSandboxId(),
		State:     strings.ToLower(strings.TrimPrefix(o.GetState().String(), "OPERATION_STATE_")),
		StartedAt: time.Unix(0, o.GetStartedAt()).UTC(), Error: o.GetError(),
		DoneBytes: o.GetDoneBytes(), TotalBytes: o.GetTotalBytes(), Cancellable: o.GetCancellable(),
	}
	if o.GetEndedAt() != 0 {
		at := time.Unix(0, o.GetEndedAt()).UTC()
		v.EndedAt = &at
	}
	return v
}

// operationNames are the IDs of operations that are under way.
func operationNames(ctx context.Context, c *client, _ string) ([]string, error) {
	resp, err := c.vms.ListOperations(ctx, &vmletv1.ListOperationsRequest{})
	if err != nil {
		return nil, err
	}
	var found []string
	for _, o := range resp.GetOperations() {
		if o.GetState() == vmletv1.OperationState_OPERATION_STATE_RUNNING {
			found = append(found, short(o.GetId()))
		}
	}
	return found, nil
}
