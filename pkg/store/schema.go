// SPDX-License-Identifier: Apache-2.0

package store

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strconv"

	"github.com/containerd/errdefs"
	bolt "go.etcd.io/bbolt"
)

// The buckets of the file, and the keys of meta.
const (
	meta       = "meta"
	sandboxes  = "sandboxes"
	containers = "containers"
	disks      = "disks"

	schemaKey = "schema"
	ownerKey  = "owner"
)

// collections are the buckets of records.
var collections = []string{sandboxes, containers, disks}

// prepare migrates the file if it is older and returns the store's owner ID.
func prepare(db *bolt.DB, steps []migration) (owner string, err error) {
	err = db.Update(func(tx *bolt.Tx) error {
		if tx.Bucket([]byte(meta)) == nil {
			return damaged("no bucket " + meta)
		}
		owner = string(tx.Bucket([]byte(meta)).Get([]byte(ownerKey)))
		if owner == "" {
			return damaged("no owner ID")
		}
		if err := migrate(tx, steps); err != nil {
			return err
		}
		for _, name := range collections {
			if tx.Bucket([]byte(name)) == nil {
				return damaged("no bucket " + name)
			}
		}
		return nil
	})
	return owner, err
}

// create lays out a file of the given schema version with a new owner.
func create(tx *bolt.Tx, version int) error {
	for _, name := range append([]string{meta}, collections...) {
		if _, err := tx.CreateBucket([]byte(name)); err != nil {
			return err
		}
	}
	var id [16]byte
	if _, err := rand.Read(id[:]); err != nil {
		return fmt.Errorf("make an owner ID: %w", err)
	}
	if err := tx.Bucket([]byte(meta)).Put([]byte(ownerKey), []byte(hex.EncodeToString(id[:]))); err != nil {
		return err
	}
	return putSchemaVersion(tx, version)
}

func schemaVersion(tx *bolt.Tx) (int, error) {
	text := string(tx.Bucket([]byte(meta)).Get([]byte(schemaKey)))
	version, err := strconv.Atoi(text)
	if err != nil || version < 1 {
		return 0, damaged(fmt.Sprintf("schema version %q", text))
	}
	return version, nil
}

func putSchemaVersion(tx *bolt.Tx, version int) error {
	return tx.Bucket([]byte(meta)).Put([]byte(schemaKey), []byte(strconv.Itoa(version)))
}

// tooNew is the error for what a newer vmlet wrote.
func tooNew(what string, version, known int) error {
	return fmt.Errorf("%s has schema version %d, and this vmlet knows up to %d: start the newer vmlet that wrote it: %w",
		what, version, known, errdefs.ErrFailedPrecondition)
}
