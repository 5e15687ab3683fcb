// SPDX-License-Identifier: Apache-2.0

// Package arktos serves the CRI of the Arktos node agent, runtime.v1alpha2, on the same socket and over the same use cases as
// runtime.v1 and vmlet.v1. What it has in common with runtime.v1 the handlers of package cri do: a request is put into their
// words, their answer into Arktos's (translate.go), since fields of one number mean the same in both but for those that are
// rewritten here. What Arktos has beside it becomes what the use cases know already:
//
//	tenant          a word of the sandbox's spec, in CNI_ARGS and in the name of a persistent disk
//	VPC, NICs,      arguments of CNI; NICs that the network did not give with its ADD are
//	cni-args        attached as AttachNIC does
//	Virtlet*        settings of the VM, by the keys of package annotations; what a node cannot
//	                do is refused (settings.go)
//	user-data       that is no text is kept as bytes, and told back to who takes bytes
//	RPCs for VMs    Reboot, CreateSnapshot, RestoreSnapshot, AttachNIC and DetachNIC of vmlet.v1
//
// docs/reference/arktos.md has every requirement of its node agent with the test that holds it.
package arktos
