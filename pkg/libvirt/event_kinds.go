// SPDX-License-Identifier: Apache-2.0

package libvirt

import (
	virt "libvirt.org/go/libvirt"

	"github.com/vmlet/vmlet/pkg/vm"
)

// lifecycleKinds maps libvirt's lifecycle events to ours. Those that are not here
// (defined, undefined, suspended to memory) are of our own making or cannot happen.
var lifecycleKinds = map[virt.DomainEventType]vm.EventKind{
	virt.DOMAIN_EVENT_STARTED:   vm.EventStarted,
	virt.DOMAIN_EVENT_SUSPENDED: vm.EventSuspended,
	virt.DOMAIN_EVENT_RESUMED:   vm.EventResumed,
	virt.DOMAIN_EVENT_STOPPED:   vm.EventStopped,
	virt.DOMAIN_EVENT_CRASHED:   vm.EventPanicked,
}

// shutdownKinds tells by the detail who shut the guest down. QEMU before 2.10 does not say;
// of its two cases a guest's own poweroff is the common one.
var shutdownKinds = map[virt.DomainEventShutdownDetailType]vm.EventKind{
	virt.DOMAIN_EVENT_SHUTDOWN_FINISHED: vm.EventGuestShutdown,
	virt.DOMAIN_EVENT_SHUTDOWN_GUEST:    vm.EventGuestShutdown,
	virt.DOMAIN_EVENT_SHUTDOWN_HOST:     vm.EventHostShutdown,
}

// details are virsh's words for the details of a lifecycle event, by libvirt's numbers.
var details = map[virt.DomainEventType]map[int]string{
	virt.DOMAIN_EVENT_STARTED: {
		int(virt.DOMAIN_EVENT_STARTED_BOOTED):        "booted",
		int(virt.DOMAIN_EVENT_STARTED_MIGRATED):      "migrated",
		int(virt.DOMAIN_EVENT_STARTED_RESTORED):      "restored",
		int(virt.DOMAIN_EVENT_STARTED_FROM_SNAPSHOT): "snapshot",
		int(virt.DOMAIN_EVENT_STARTED_WAKEUP):        "event wakeup",
		int(virt.DOMAIN_EVENT_STARTED_RECREATED):     "recreated",
	},
	virt.DOMAIN_EVENT_SUSPENDED: {
		int(virt.DOMAIN_EVENT_SUSPENDED_PAUSED):          "paused",
		int(virt.DOMAIN_EVENT_SUSPENDED_MIGRATED):        "migrated",
		int(virt.DOMAIN_EVENT_SUSPENDED_IOERROR):         "ioerror",
		int(virt.DOMAIN_EVENT_SUSPENDED_WATCHDOG):        "watchdog",
		int(virt.DOMAIN_EVENT_SUSPENDED_RESTORED):        "restored",
		int(virt.DOMAIN_EVENT_SUSPENDED_FROM_SNAPSHOT):   "snapshot",
		int(virt.DOMAIN_EVENT_SUSPENDED_API_ERROR):       "api error",
		int(virt.DOMAIN_EVENT_SUSPENDED_POSTCOPY):        "post-copy",
		int(virt.DOMAIN_EVENT_SUSPENDED_POSTCOPY_FAILED): "post-copy failed",
		int(virt.DOMAIN_EVENT_SUSPENDED_GUEST_SHUTDOWN):  "guest shutdown",
	},
	virt.DOMAIN_EVENT_RESUMED: {
		int(virt.DOMAIN_EVENT_RESUMED_UNPAUSED):        "unpaused",
		int(virt.DOMAIN_EVENT_RESUMED_MIGRATED):        "migrated",
		int(virt.DOMAIN_EVENT_RESUMED_FROM_SNAPSHOT):   "snapshot",
		int(virt.DOMAIN_EVENT_RESUMED_POSTCOPY):        "post-copy",
		int(virt.DOMAIN_EVENT_RESUMED_POSTCOPY_FAILED): "post-copy failed",
	},
	virt.DOMAIN_EVENT_STOPPED: {
		int(virt.DOMAIN_EVENT_STOPPED_SHUTDOWN):      "shutdown",
		int(virt.DOMAIN_EVENT_STOPPED_DESTROYED):     "destroyed",
		int(virt.DOMAIN_EVENT_STOPPED_CRASHED):       "crashed",
		int(virt.DOMAIN_EVENT_STOPPED_MIGRATED):      "migrated",
		int(virt.DOMAIN_EVENT_STOPPED_SAVED):         "saved",
		int(virt.DOMAIN_EVENT_STOPPED_FAILED):        "failed",
		int(virt.DOMAIN_EVENT_STOPPED_FROM_SNAPSHOT): "snapshot",
		int(virt.DOMAIN_EVENT_STOPPED_RECREATED):     "recreated",
	},
	virt.DOMAIN_EVENT_SHUTDOWN: {
		int(virt.DOMAIN_EVENT_SHUTDOWN_FINISHED): "finished",
		int(virt.DOMAIN_EVENT_SHUTDOWN_GUEST):    "guest",
		int(virt.DOMAIN_EVENT_SHUTDOWN_HOST):     "host",
	},
	virt.DOMAIN_EVENT_CRASHED: {
		int(virt.DOMAIN_EVENT_CRASHED_PANICKED):    "panicked",
		int(virt.DOMAIN_EVENT_CRASHED_CRASHLOADED): "crashloaded",
	},
}

// lifecycleEvent translates; kind is "" for an event that nobody listens to.
func lifecycleEvent(e *virt.DomainEventLifecycle) (kind vm.EventKind, detail string) {
	kind = lifecycleKinds[e.Event]
	if e.Event == virt.DOMAIN_EVENT_SHUTDOWN {
		kind = shutdownKinds[virt.DomainEventShutdownDetailType(e.Detail)]
	}
	detail, ok := details[e.Event][e.Detail]
	if !ok {
		detail = unknown
	}
	return kind, detail
}

var agentKinds = map[virt.ConnectDomainEventAgentLifecycleState]vm.EventKind{
	virt.CONNECT_DOMAIN_EVENT_AGENT_LIFECYCLE_STATE_CONNECTED:    vm.EventAgentConnected,
	virt.CONNECT_DOMAIN_EVENT_AGENT_LIFECYCLE_STATE_DISCONNECTED: vm.EventAgentDisconnected,
}

var agentReasons = map[virt.ConnectDomainEventAgentLifecycleReason]string{
	virt.CONNECT_DOMAIN_EVENT_AGENT_LIFECYCLE_REASON_UNKNOWN:        unknown,
	virt.CONNECT_DOMAIN_EVENT_AGENT_LIFECYCLE_REASON_DOMAIN_STARTED: "domain started",
	virt.CONNECT_DOMAIN_EVENT_AGENT_LIFECYCLE_REASON_CHANNEL:        "channel",
}
