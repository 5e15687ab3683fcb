// SPDX-License-Identifier: Apache-2.0

package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// envelope is how a record stands in the file.
type envelope struct {
	// Version is the schema version that Record is in.
	Version int             `json:"v"`
	Record  json.RawMessage `json:"record"`
}

// encode returns v as it is stored, and v as it is read back from that.
func encode[T any](version int, v T) (stored []byte, readBack T, err error) {
	record, err := json.Marshal(v)
	if err != nil {
		return nil, readBack, err
	}
	if stored, err = json.Marshal(envelope{version, record}); err != nil {
		return nil, readBack, err
	}
	readBack, err = decodeRecord[T](record)
	return stored, readBack, err
}

// decode reads what encode stored.
func decode[T any](version int, stored []byte) (v T, err error) {
	record, err := openEnvelope(stored, version)
	if err != nil {
		return v, err
	}
	if v, err = decodeRecord[T](record); err != nil {
		return v, damaged(err.Error())
	}
	return v, nil
}

// openEnvelope returns the record in it, which has to be of the wanted version.
func openEnvelope(stored []byte, want int) (json.RawMessage, error) {
	var e envelope
	if err := decodeStrictly(stored, &e); err != nil {
		return nil, damaged(err.Error())
	}
	switch {
	case e.Version > want:
		return nil, tooNew("it", e.Version, want)
	case e.Version < want:
		return nil, damaged(fmt.Sprintf("schema version %d in a file of version %d", e.Version, want))
	}
	return e.Record, nil
}

func decodeRecord[T any](record json.RawMessage) (v T, err error) {
	err = decodeStrictly(record, &v)
	return v, err
}

// decodeStrictly refuses fields that the type does not have: rewriting the record
// would drop them.
func decodeStrictly(b []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows the JSON value")
	}
	return nil
}
