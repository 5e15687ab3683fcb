// SPDX-License-Identifier: Apache-2.0

package vm

import "time"

// OperationKind says what an operation does, in the word that clients read. Kinds are added.
type OperationKind string

// The kinds.
const (
	OperationSnapshotCreate  OperationKind = "snapshot-create"
	OperationSnapshotRestore OperationKind = "snapshot-restore"
	OperationSnapshotDelete  OperationKind = "snapshot-delete"
	OperationCheckpoint      OperationKind = "checkpoint-create"
)

// OperationState is where an operation stands.
//
//	running -----> succeeded
//	   |---------> failed
//	   `---------> cancelled
type OperationState string

// The states of an operation.
const (
	OperationRunning   OperationState = "running"
	OperationSucceeded OperationState = "succeeded"
	OperationFailed    OperationState = "failed"
	OperationCancelled OperationState = "cancelled"
)

// OperationsKept is how many operations of one sandbox that have ended are kept on record.
const OperationsKept = 16

// Operation is the record of long work on a VM. It is there from the intent on; once it has ended it is kept until
// OperationsKept later ones have, or the sandbox goes.
type Operation struct {
	// ID is random, 32 lower-case hex digits.
	ID   string        `json:"id"`
	Kind OperationKind `json:"kind"`
	// Subject is the name of the snapshot, or the folder of the checkpoint.
	Subject string `json:"subject,omitempty"`
	// Object is what recovery knows the outcome by: the ID of the snapshot that is taken or deleted, the file of the
	// disk after a restore, "whole" once a checkpoint is.
	Object string         `json:"object,omitempty"`
	State  OperationState `json:"state"`
	// StartedAt and EndedAt are of the clock of the node.
	StartedAt time.Time `json:"startedAt"`
	EndedAt   time.Time `json:"endedAt,omitzero"`
	// Error says why it failed. It reaches every client: no secrets.
	Error string `json:"error,omitempty"`
}

// Progress is how far something is, in bytes. Both are 0 while nobody tells.
type Progress struct {
	Done, Total int64
}

// OperationInfo is an operation as it is seen from outside.
type OperationInfo struct {
	Operation
	Progress

	SandboxID, Namespace, Pod string
	// Cancellable: a cancel would be tried now.
	Cancellable bool
}
