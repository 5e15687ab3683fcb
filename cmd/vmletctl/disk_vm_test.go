// SPDX-License-Identifier: Apache-2.0

package main

import (
	"slices"
	"strings"
	"testing"
)

func TestDisksOfAVM(t *testing.T) {
	w := newWorld(t)
	w.addPods("")
	for file, args := range map[string][]string{
		"disk-attach.txt":  {"disk", "attach", "web", "data", "--size", "10G"},
		"disk-attach.json": {"disk", "attach", "web", "data", "--size", "10G", "-o", "json"},
		"disk-resize.txt":  {"disk", "resize", "web", "data", "2GiB"},
		"disk-resize.json": {"disk", "resize", "web", "data", "-o", "json", "--keep-file-system"},
		"disk-ls-vm.txt":   {"disk", "ls", "web"},
		"disk-ls-vm.json":  {"disk", "ls", "web", "-o", "json"},
	} {
		got := w.ctl(t, args...)
		got.wantOK(t)
		golden(t, file, got.stdout)
	}
	w.ctl(t, "disk", "attach", "web", "dump", "--path", "/srv/dump", "--format", "raw", "--bus", "scsi", "--serial", "s1", "--read-only").wantOK(t)
	w.ctl(t, "disk", "detach", "web", "data", "--delete", "--wait", "1500ms").wantOK(t)
	calls := w.called()
	for _, want := range []string{
		"ResizeDisk " + webID + " data to 2147483648 grow true",
		"ResizeDisk " + webID + " data to 0 grow false",
		"DetachDisk " + webID + " data delete true within 1500 ms",
	} {
		if !slices.Contains(calls, want) {
			t.Errorf("called %q, not %q", calls, want)
		}
	}
	i := slices.IndexFunc(calls, func(call string) bool { return strings.Contains(call, "/srv/dump") })
	if i < 0 {
		t.Fatalf("called %q", calls)
	}
	for _, part := range []string{"DISK_FORMAT_RAW", "DISK_BUS_SCSI", `serial:"s1"`, "read_only:true"} {
		if !strings.Contains(calls[i], part) {
			t.Errorf("%s is without %s", calls[i], part)
		}
	}
}

func TestDisksOfAVMThatAreMistold(t *testing.T) {
	w := newWorld(t)
	w.addPods("")
	attach := []string{"disk", "attach", "web", "data"}
	for says, args := range map[string][]string{
		"either --size":                    attach,
		"either --size, for a new disk":    append(slices.Clone(attach), "--size", "1G", "--path", "/srv/x"),
		"say the --format":                 append(slices.Clone(attach), "--path", "/srv/x"),
		`"ide" is neither virtio nor scsi`: append(slices.Clone(attach), "--size", "1G", "--bus", "ide"),
		`"vmdk" is neither qcow2 nor raw`:  append(slices.Clone(attach), "--path", "/srv/x", "--format", "vmdk"),
		`"1GB" is no size`:                 append(slices.Clone(attach), "--size", "1GB"),
		`"-1" is no size`:                  {"disk", "resize", "web", "data", "--", "-1"},
		`"99999999999T" is no size`:        {"disk", "resize", "web", "data", "99999999999T"},
		"--wait must not be negative":      {"disk", "detach", "web", "data", "--wait", "-1s"},
		"vmletctl disk resize --help":      {"disk", "resize", "web"},
	} {
		w.ctl(t, args...).wantError(t, exitUsage, says)
	}
	if calls := w.called(); len(calls) > 0 {
		t.Errorf("called %q", calls)
	}
}
