// SPDX-License-Identifier: Apache-2.0

package vm

// Gate is something that may be done to a VM unless the configuration says otherwise. Its value is the key below "gates"
// there.
type Gate string

// The gates. Reboot, pause and what the CRI itself asks for have none.
const (
	GateCPUAdd       Gate = "hotplug.cpu.add"
	GateCPURemove    Gate = "hotplug.cpu.remove"
	GateMemoryAdd    Gate = "hotplug.memory.add"
	GateMemoryRemove Gate = "hotplug.memory.remove"
	GateNICAdd       Gate = "hotplug.nic.add"
	GateNICRemove    Gate = "hotplug.nic.remove"
	GateDiskAdd      Gate = "hotplug.disk.add"
	GateDiskRemove   Gate = "hotplug.disk.remove"
	// GateSnapshots is for making snapshots and for going back to one. They can be looked at and removed all the same.
	GateSnapshots Gate = "snapshots"
	// GateConsole is for whoever types into a VM or looks at its screen: serial console, VNC, screenshot.
	GateConsole Gate = "console"
)

// Gates are all of them.
func Gates() []Gate {
	return []Gate{
		GateCPUAdd, GateCPURemove, GateMemoryAdd, GateMemoryRemove, GateNICAdd, GateNICRemove, GateDiskAdd, GateDiskRemove,
		GateSnapshots, GateConsole,
	}
}
