// SPDX-License-Identifier: Apache-2.0

package cri

import (
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vmlet/vmlet/pkg/vm"
)

var namespaceModes = map[runtimeapi.NamespaceMode]vm.NamespaceMode{
	runtimeapi.NamespaceMode_POD:       vm.NamespacePod,
	runtimeapi.NamespaceMode_CONTAINER: vm.NamespaceContainer,
	runtimeapi.NamespaceMode_NODE:      vm.NamespaceNode,
}

var namespaceModesBack = map[vm.NamespaceMode]runtimeapi.NamespaceMode{
	vm.NamespacePod:       runtimeapi.NamespaceMode_POD,
	vm.NamespaceContainer: runtimeapi.NamespaceMode_CONTAINER,
	vm.NamespaceNode:      runtimeapi.NamespaceMode_NODE,
}

// namespaces converts options that passed checkNamespaces.
func namespaces(opts *runtimeapi.NamespaceOption) vm.Namespaces {
	ns := vm.Namespaces{
		Network: namespaceModes[opts.GetNetwork()],
		PID:     namespaceModes[opts.GetPid()],
		IPC:     namespaceModes[opts.GetIpc()],
	}
	if users := opts.GetUsernsOptions(); users != nil {
		mode := namespaceModes[users.GetMode()]
		ns.User = &mode
	}
	return ns
}

func namespaceOptions(ns vm.Namespaces) *runtimeapi.NamespaceOption {
	opts := &runtimeapi.NamespaceOption{
		Network: namespaceModesBack[ns.Network],
		Pid:     namespaceModesBack[ns.PID],
		Ipc:     namespaceModesBack[ns.IPC],
	}
	if ns.User != nil {
		opts.UsernsOptions = &runtimeapi.UserNamespace{Mode: namespaceModesBack[*ns.User]}
	}
	return opts
}
