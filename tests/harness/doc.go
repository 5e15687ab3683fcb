// SPDX-License-Identifier: Apache-2.0

// Package harness runs a real node for tests: a private libvirtd, real CNI plugins, a
// registry and the vmlet daemon as a process, all in a network namespace of their own.
//
//	func TestMain(m *testing.M) { harness.Main(m) }
//
//	func TestX(t *testing.T) {
//		node := harness.StartNode(t)
//		pod := node.Run(harness.Pod{Name: "x"})
//		...
//	} // the end of the test proves that nothing is left
package harness
