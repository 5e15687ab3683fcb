// SPDX-License-Identifier: Apache-2.0

package lifecycle

import "github.com/vmlet/vmlet/pkg/vm"

// mainOf is the container's command as the guest's main process.
func mainOf(c vm.Container) vm.Main {
	return vm.Main{
		ID:      c.GuestID(),
		Process: processOf(c, c.Spec.Main(), c.Spec.TTY),
		Stdin:   c.Spec.Stdin, StdinOnce: c.Spec.StdinOnce,
	}
}

// processOf is a process of a container: beside its command as one of the same container,
// with the same environment, rights and mounts. On a machine without a command a process is
// root, unless the pod names a user, and has the machine's own environment.
func processOf(c vm.Container, args []string, tty bool) vm.Process {
	p := vm.Process{Args: args, TTY: tty, Security: c.Spec.Security, Namespace: namespaceOf(c)}
	if c.Spec.HasMain() {
		p.Env, p.WorkingDir = c.Spec.Env, c.Spec.WorkingDir
	}
	return p
}

// namespaceOf names the guest's mount namespace that the container's processes share, "" for
// the machine's own.
func namespaceOf(c vm.Container) string {
	if !c.Spec.HasMain() {
		return ""
	}
	return c.GuestID()
}
