// SPDX-License-Identifier: Apache-2.0

// Package store keeps vmlet's durable records in one bbolt file, with a copy in memory
// that answers every read.
//
//	vmlet.db
//	├── meta
//	│   ├── schema        version of everything below, decimal: "5"
//	│   └── owner         32 hex digits, made when the file was
//	├── sandboxes
//	│   └── <sandbox ID>    {"v":5,"record":{...}}    vm.Sandbox as JSON
//	├── containers
//	│   └── <container ID>  {"v":5,"record":{...}}    vm.Container as JSON
//	└── disks
//	    └── <name>          {"v":5,"record":{...}}    vm.PersistentDisk as JSON; see vm.DiskKey
//
// Beside it lies vmlet.lock, held by flock(2) while the store is open, with the
// holder's process ID in it.
//
// A write returns when it is on disk, and readers see it from then on, never earlier.
// What they see is what was decoded from the written bytes: it is what they would see
// after a restart. Writes that come while another one is being synced share the next
// sync; a lone write waits for nobody.
//
// Opening migrates older files step by step, in one transaction, and refuses newer
// ones, also by a single record or field that this vmlet does not know: a downgrade
// never drops what it does not understand. So every change of the record types other
// than a new field needs a new schema version and a migration, and a new field needs
// a new schema version; the fixtures in testdata, one file per version, tell when one
// was forgotten.
package store
