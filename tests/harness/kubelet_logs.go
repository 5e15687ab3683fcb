// SPDX-License-Identifier: Apache-2.0

package harness

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// RotatedLog is what a pod's VM has printed, by file: all that kubelet has rotated away, oldest first, and the present
// log, without the CRI prefixes. kubelet compresses what it has rotated away, but for the youngest. While it does so, or
// rotates, there is an error.
func (k *Kubelet) RotatedLog(name string) (log [][]string, err error) {
	pattern := filepath.Join(k.LogDir(), "default_"+name+"-"+kubeletNode+"_*", "vm", "0.log*")
	files, err := filepath.Glob(pattern)
	if err != nil {
		return nil, err
	}
	slices.Sort(files) // the present one, and then by the time that kubelet names them after
	if len(files) == 0 || filepath.Base(files[0]) != "0.log" {
		return nil, fmt.Errorf("there is no present log: %v", files)
	}
	for _, file := range append(files[1:], files[0]) {
		if strings.HasSuffix(file, ".tmp") || slices.Contains(files, file+".gz") {
			return nil, fmt.Errorf("%s is being compressed", file)
		}
		data, err := readLog(file)
		if err != nil {
			return nil, err
		}
		log = append(log, texts(data))
	}
	if now, err := filepath.Glob(pattern); err != nil || len(now) != len(files) {
		return nil, errors.Join(err, fmt.Errorf("%d files have become %d", len(files), len(now)))
	}
	return log, nil
}

func readLog(file string) ([]byte, error) {
	data, err := os.ReadFile(file)
	if err != nil || !strings.HasSuffix(file, ".gz") {
		return data, err
	}
	unzip, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(unzip)
}

// texts are the lines of a CRI log: "TIME STREAM F TEXT".
func texts(log []byte) (lines []string) {
	for line := range strings.Lines(string(log)) {
		if fields := strings.SplitN(strings.TrimSuffix(line, "\n"), " ", 4); len(fields) == 4 {
			lines = append(lines, fields[3])
		}
	}
	return lines
}
