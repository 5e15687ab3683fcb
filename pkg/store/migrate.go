// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"encoding/json"
	"fmt"

	bolt "go.etcd.io/bbolt"
)

// migration turns the records of one schema version into those of the next.
type migration struct {
	// name says what changes, for errors.
	name string
	// adds is the collection that comes with it, "" for none.
	adds string
	// record returns the new form of one record; collection is the name of its bucket.
	record func(collection string, old json.RawMessage) (json.RawMessage, error)
}

// migrations is the history of the schema: migrations[i] leads from version i+1 to
// version i+2. Entries are only ever added, each with a test and with the fixture of
// the version it ends at.
var migrations = []migration{
	{name: "the command, files and shares of containers", record: asItWas},
	{name: "root disks of one container, and persistent ones; limits that change", adds: disks, record: asItWas},
	{name: "machines that are rebooted and paused", record: asItWas},
	{name: "snapshots and the layers under disks; data disks and NICs of sandboxes", record: asItWas},
	{name: "VMs that are off, resized, checkpointed; operations; snapshots of persistent disks; tenants", record: withoutMemoryPaths},
}

// asItWas leaves a record alone: a new version that only has more fields. It is a version
// so that an older vmlet refuses what it would not understand.
func asItWas(_ string, old json.RawMessage) (json.RawMessage, error) { return old, nil }

// withoutMemoryPaths takes from snapshots the path of their memory, which follows from their IDs.
func withoutMemoryPaths(collection string, old json.RawMessage) (json.RawMessage, error) {
	if collection != sandboxes {
		return old, nil
	}
	var record map[string]any
	d := json.NewDecoder(bytes.NewReader(old))
	d.UseNumber() // as they are: times are nanoseconds
	if err := d.Decode(&record); err != nil {
		return nil, err
	}
	status, ok := record["status"].(map[string]any)
	if !ok {
		return old, nil
	}
	snapshots, ok := status["snapshots"].([]any)
	if !ok {
		return old, nil
	}
	for _, s := range snapshots {
		if snap, ok := s.(map[string]any); ok {
			if memory, ok := snap["memory"].(map[string]any); ok {
				delete(memory, "path")
			}
		}
	}
	return json.Marshal(record)
}

// migrate brings the file to the newest version, one step after another.
func migrate(tx *bolt.Tx, steps []migration) error {
	version, err := schemaVersion(tx)
	if err != nil {
		return err
	}
	newest := len(steps) + 1
	if version > newest {
		return tooNew("the file", version, newest)
	}
	for ; version < newest; version++ {
		step := steps[version-1]
		for _, collection := range collections {
			if err := migrateRecords(tx, collection, version, step); err != nil {
				return fmt.Errorf("migrate %s from schema version %d (%s): %w", collection, version, step.name, err)
			}
		}
		if step.adds != "" {
			if _, err := tx.CreateBucketIfNotExists([]byte(step.adds)); err != nil {
				return fmt.Errorf("migrate from schema version %d (%s): %w", version, step.name, err)
			}
		}
		if err := putSchemaVersion(tx, version+1); err != nil {
			return err
		}
	}
	return nil
}

func migrateRecords(tx *bolt.Tx, collection string, version int, step migration) error {
	bucket := tx.Bucket([]byte(collection))
	if bucket == nil {
		return nil // a later version adds it, or prepare will miss it
	}
	changed := map[string][]byte{} // a bucket must not change under ForEach
	err := bucket.ForEach(func(id, stored []byte) error {
		old, err := openEnvelope(stored, version)
		if err != nil {
			return fmt.Errorf("record %s: %w", id, err)
		}
		record, err := step.record(collection, old)
		if err != nil {
			return fmt.Errorf("record %s: %w", id, err)
		}
		changed[string(id)], err = json.Marshal(envelope{Version: version + 1, Record: record})
		return err
	})
	if err != nil {
		return err
	}
	for id, stored := range changed {
		if err := bucket.Put([]byte(id), stored); err != nil {
			return err
		}
	}
	return nil
}
