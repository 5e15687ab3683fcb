// SPDX-License-Identifier: Apache-2.0

// Package bench measures a real node against floors: straight-line code that does the same
// work on the same parts with nothing around it. Floor and vmlet take turns within one run,
// so that what else the machine does falls on both.
//
// `make bench` runs all of it; docs/benchmarks.md explains each figure and keeps the last
// table. The flags:
//
//	-run REGEXP   only measurements whose name matches
//	-n N          samples per measurement, instead of each one's own number
//	-docs         put the table into docs/benchmarks.md
package bench
