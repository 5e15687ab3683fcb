// SPDX-License-Identifier: Apache-2.0

package config

import "fmt"

// Handler is a RuntimeClass handler: its name alone, or a section.
type Handler struct {
	Name string `yaml:"name"`
	// Gates take the place of the node's, where they say something.
	Gates Gates `yaml:"gates"`
}

// Gates say what may be done to VMs. Their keys are vm.Gate.
type Gates struct {
	Hotplug   Hotplug `yaml:"hotplug"`
	Snapshots Gate    `yaml:"snapshots"`
	Console   Gate    `yaml:"console"`
}

// Hotplug are the gates of what is added to VMs and removed from them while they run.
type Hotplug struct {
	CPU    AddRemove `yaml:"cpu"`
	Memory AddRemove `yaml:"memory"`
	NIC    AddRemove `yaml:"nic"`
	Disk   AddRemove `yaml:"disk"`
}

// AddRemove are the two gates of one kind of device.
type AddRemove struct {
	Add    Gate `yaml:"add"`
	Remove Gate `yaml:"remove"`
}

// Gate is open or closed. "" is what the node's gate says, and open for that one.
type Gate string

// What a gate can be.
const (
	Open   Gate = "open"
	Closed Gate = "closed"
)

// ByKey are all gates by their keys below "gates".
func (g *Gates) ByKey() map[string]*Gate {
	return map[string]*Gate{
		"hotplug.cpu.add": &g.Hotplug.CPU.Add, "hotplug.cpu.remove": &g.Hotplug.CPU.Remove,
		"hotplug.memory.add": &g.Hotplug.Memory.Add, "hotplug.memory.remove": &g.Hotplug.Memory.Remove,
		"hotplug.nic.add": &g.Hotplug.NIC.Add, "hotplug.nic.remove": &g.Hotplug.NIC.Remove,
		"hotplug.disk.add": &g.Hotplug.Disk.Add, "hotplug.disk.remove": &g.Hotplug.Disk.Remove,
		"snapshots": &g.Snapshots, "console": &g.Console,
	}
}

// Over is g, with the gates of below where g says nothing.
func (g *Gates) Over(below Gates) Gates {
	out, theirs := *g, below.ByKey()
	for key, gate := range out.ByKey() {
		if *gate == "" {
			*gate = *theirs[key]
		}
	}
	return out
}

// HandlerNames are the names of the runtime handlers, in their order.
func (c Config) HandlerNames() []string {
	names := make([]string, len(c.Handlers))
	for i, h := range c.Handlers {
		names[i] = h.Name
	}
	return names
}

// gateProblems judges runtime handlers and all gates.
func (c Config) gateProblems() []problem {
	out := c.Gates.problems("gates")
	seen := map[string]bool{}
	for i, h := range c.Handlers {
		key := fmt.Sprintf("runtimeHandlers[%d]", i)
		switch {
		case h.Name == "":
			out = append(out, problem{key, `wants a name; the handler without one is always there, with the gates of the key "gates"`})
		case seen[h.Name]:
			out = append(out, problem{key, fmt.Sprintf("%q is listed twice", h.Name)})
		}
		seen[h.Name] = true
		out = append(out, h.Gates.problems(key+".gates")...)
	}
	return out
}

func (g *Gates) problems(at string) []problem {
	var out []problem
	for key, gate := range g.ByKey() {
		if *gate != "" && *gate != Open && *gate != Closed {
			out = append(out, problem{at + "." + key, fmt.Sprintf("%q is neither open nor closed", *gate)})
		}
	}
	return out
}
