// SPDX-License-Identifier: Apache-2.0

package libvirt

import (
	virt "libvirt.org/go/libvirt"

	"github.com/vmlet/vmlet/pkg/vm"
)

// domainStates maps libvirt's states to those that vmlet tells apart.
var domainStates = map[virt.DomainState]vm.DomainState{
	virt.DOMAIN_NOSTATE: vm.DomainRunning,
	virt.DOMAIN_RUNNING: vm.DomainRunning,
	virt.DOMAIN_BLOCKED: vm.DomainRunning,
	// QEMU is still there, and so are its taps and disks.
	virt.DOMAIN_SHUTDOWN:    vm.DomainRunning,
	virt.DOMAIN_PAUSED:      vm.DomainPaused,
	virt.DOMAIN_PMSUSPENDED: vm.DomainPaused,
	virt.DOMAIN_SHUTOFF:     vm.DomainShutoff,
	virt.DOMAIN_CRASHED:     vm.DomainCrashed,
}

const unknown = "unknown"

// reasons are virsh's words for the reasons of a state, by libvirt's numbers.
var reasons = map[virt.DomainState]map[int]string{
	virt.DOMAIN_RUNNING: {
		int(virt.DOMAIN_RUNNING_BOOTED):             "booted",
		int(virt.DOMAIN_RUNNING_MIGRATED):           "migrated",
		int(virt.DOMAIN_RUNNING_RESTORED):           "restored",
		int(virt.DOMAIN_RUNNING_FROM_SNAPSHOT):      "from snapshot",
		int(virt.DOMAIN_RUNNING_UNPAUSED):           "unpaused",
		int(virt.DOMAIN_RUNNING_MIGRATION_CANCELED): "migration canceled",
		int(virt.DOMAIN_RUNNING_SAVE_CANCELED):      "save canceled",
		int(virt.DOMAIN_RUNNING_WAKEUP):             "event wakeup",
		int(virt.DOMAIN_RUNNING_CRASHED):            "crashed",
		int(virt.DOMAIN_RUNNING_POSTCOPY):           "post-copy",
		int(virt.DOMAIN_RUNNING_POSTCOPY_FAILED):    "post-copy failed",
	},
	virt.DOMAIN_PAUSED: {
		int(virt.DOMAIN_PAUSED_USER):            "user",
		int(virt.DOMAIN_PAUSED_MIGRATION):       "migrating",
		int(virt.DOMAIN_PAUSED_SAVE):            "saving",
		int(virt.DOMAIN_PAUSED_DUMP):            "dumping",
		int(virt.DOMAIN_PAUSED_IOERROR):         "ioerror",
		int(virt.DOMAIN_PAUSED_WATCHDOG):        "watchdog",
		int(virt.DOMAIN_PAUSED_FROM_SNAPSHOT):   "from snapshot",
		int(virt.DOMAIN_PAUSED_SHUTTING_DOWN):   "shutting down",
		int(virt.DOMAIN_PAUSED_SNAPSHOT):        "creating snapshot",
		int(virt.DOMAIN_PAUSED_CRASHED):         "crashed",
		int(virt.DOMAIN_PAUSED_STARTING_UP):     "starting up",
		int(virt.DOMAIN_PAUSED_POSTCOPY):        "post-copy",
		int(virt.DOMAIN_PAUSED_POSTCOPY_FAILED): "post-copy failed",
		int(virt.DOMAIN_PAUSED_API_ERROR):       "api error",
	},
	virt.DOMAIN_SHUTDOWN: {
		int(virt.DOMAIN_SHUTDOWN_USER): "user",
	},
	virt.DOMAIN_SHUTOFF: {
		int(virt.DOMAIN_SHUTOFF_SHUTDOWN):      "shutdown",
		int(virt.DOMAIN_SHUTOFF_DESTROYED):     "destroyed",
		int(virt.DOMAIN_SHUTOFF_CRASHED):       "crashed",
		int(virt.DOMAIN_SHUTOFF_MIGRATED):      "migrated",
		int(virt.DOMAIN_SHUTOFF_SAVED):         "saved",
		int(virt.DOMAIN_SHUTOFF_FAILED):        "failed",
		int(virt.DOMAIN_SHUTOFF_FROM_SNAPSHOT): "from snapshot",
		int(virt.DOMAIN_SHUTOFF_DAEMON):        "daemon",
	},
	virt.DOMAIN_CRASHED: {
		int(virt.DOMAIN_CRASHED_PANICKED): "panicked",
	},
}

func reasonWord(state virt.DomainState, reason int) string {
	if word, ok := reasons[state][reason]; ok {
		return word
	}
	return unknown
}
