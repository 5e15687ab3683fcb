// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"strings"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// signalAliases are the other names that Linux has for a signal (signal(7)).
var signalAliases = map[string]string{"SIGCLD": "SIGCHLD", "SIGIOT": "SIGABRT", "SIGPOLL": "SIGIO"}

// stopSignal is a signal by its name, such as "SIGUSR1" or "SIGRTMIN+3", and "" for the
// runtime's default.
func stopSignal(config *runtimeapi.ContainerConfig) (string, error) {
	signal := config.GetStopSignal()
	if signal == runtimeapi.Signal_SIGNAL_RUNTIME_DEFAULT {
		return "", nil
	}
	name, known := strings.CutPrefix(runtimeapi.Signal_name[int32(signal)], "SIGNAL_")
	if !known {
		return "", invalid("config.stop_signal", "%d is no signal", signal)
	}
	if !hasCommand(config) {
		return "", refused("config.stop_signal", "a VM without a command is stopped by its power button, not by "+name+"; remove the stop signal")
	}
	if alias, ok := signalAliases[name]; ok {
		name = alias
	}
	return strings.NewReplacer("MINPLUS", "MIN+", "MAXMINUS", "MAX-").Replace(name), nil
}

// hasCommand tells whether a container has a command, which is then the guest's main
// process. A VM's image has no entry point that arguments alone could go to: they are it.
func hasCommand(config *runtimeapi.ContainerConfig) bool {
	return len(config.GetCommand())+len(config.GetArgs()) > 0
}
