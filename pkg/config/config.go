// SPDX-License-Identifier: Apache-2.0

// Package config reads the daemon's configuration file: YAML, strict. An unknown key
// or a bad value is an error that says where it is and what would be right.
package config

import (
	_ "embed"
	"time"
)

// Config is the whole configuration. The commented default (`vmlet config default`)
// is its reference.
type Config struct {
	Listen         Listen     `yaml:"listen"`
	Root           string     `yaml:"root"`
	State          string     `yaml:"state"`
	Libvirt        Libvirt    `yaml:"libvirt"`
	QEMU           QEMU       `yaml:"qemu"`
	Virtualization string     `yaml:"virtualization"`
	Cgroups        string     `yaml:"cgroups"`
	CgroupDriver   string     `yaml:"cgroupDriver"`
	CNI            CNI        `yaml:"cni"`
	Stream         Stream     `yaml:"stream"`
	Images         Images     `yaml:"images"`
	Disks          Disks      `yaml:"disks"`
	Console        Console    `yaml:"console"`
	Log            Log        `yaml:"log"`
	Metrics        Metrics    `yaml:"metrics"`
	Stats          Stats      `yaml:"stats"`
	GuestAgent     GuestAgent `yaml:"guestAgent"`
	Gates          Gates      `yaml:"gates"`
	Handlers       []Handler  `yaml:"runtimeHandlers"`
	Defaults       Defaults   `yaml:"defaults"`

	Checkpoints Checkpoints `yaml:"checkpoints"`
}

// Listen is the socket that CRI is served on.
type Listen struct {
	Socket string `yaml:"socket"`
	Group  string `yaml:"group"`
	// CallsPerClient and StreamsPerClient are what one client may have under way.
	CallsPerClient   int `yaml:"callsPerClient"`
	StreamsPerClient int `yaml:"streamsPerClient"`
}

// Libvirt says how to reach libvirt, and where it keeps what no API tells.
type Libvirt struct {
	URI      string `yaml:"uri"`
	LogDir   string `yaml:"logDir"`
	QEMUConf string `yaml:"qemuConf"`
}

// QEMU is the user that libvirt runs QEMU as.
type QEMU struct {
	User  string `yaml:"user"`
	Group string `yaml:"group"`
}

// CNI says where network configurations and plugins are.
type CNI struct {
	ConfDir string        `yaml:"confDir"`
	BinDirs []string      `yaml:"binDirs"`
	Timeout time.Duration `yaml:"timeout"`
}

// Stream is the server of exec, attach and port-forward streams.
type Stream struct {
	Address     string        `yaml:"address"`
	TLSCert     string        `yaml:"tlsCert"`
	TLSKey      string        `yaml:"tlsKey"`
	IdleTimeout time.Duration `yaml:"idleTimeout"`
}

// Images says how image names are resolved.
type Images struct {
	Aliases            []Alias  `yaml:"aliases"`
	InsecureRegistries []string `yaml:"insecureRegistries"`
	MaxVirtualSize     Size     `yaml:"maxVirtualSize"`
}

// Disks says which of the node's files and devices VMs may be given as disks.
type Disks struct {
	AllowedPaths []string `yaml:"allowedPaths"`
}

// Checkpoints says where checkpoints of VMs may be written to and read from.
type Checkpoints struct {
	AllowedPaths []string `yaml:"allowedPaths"`
}

// Alias pulls images whose name matches Pattern from Name instead.
type Alias struct {
	Pattern string `yaml:"pattern"`
	Name    string `yaml:"name"`
}

// Console bounds what a guest's unread console output may take on disk.
type Console struct {
	SpoolLimit Size `yaml:"spoolLimit"`
}

// Log says what is logged and how.
type Log struct {
	Level  string `yaml:"level"`
	Format string `yaml:"format"`
}

// Metrics is where Prometheus metrics are served; "" for nowhere.
type Metrics struct {
	Address string `yaml:"address"`
}

// Stats says how often VMs are sampled.
type Stats struct {
	Interval time.Duration `yaml:"interval"`
}

// GuestAgent says where vmlet-agent is for guests whose image lacks it.
type GuestAgent struct {
	Binary string `yaml:"binary"`
}

// Defaults are the node's answers where a pod asks for nothing.
type Defaults struct {
	VCPUs           int      `yaml:"vcpus"`
	MaxVCPUs        int      `yaml:"maxVCPUs"`
	Memory          Size     `yaml:"memory"`
	MinimumMemory   Size     `yaml:"minimumMemory"`
	MemoryHeadroom  int      `yaml:"memoryHeadroom"`
	Machine         string   `yaml:"machine"`
	CPU             CPU      `yaml:"cpu"`
	DiskBus         string   `yaml:"diskBus"`
	DiskErrorPolicy string   `yaml:"diskErrorPolicy"`
	RNG             bool     `yaml:"rng"`
	Watchdog        Watchdog `yaml:"watchdog"`
	AgentChannel    bool     `yaml:"agentChannel"`
	// AgentTimeout is how long a command waits for vmlet-agent in its guest.
	AgentTimeout time.Duration `yaml:"agentTimeout"`
	Video        string        `yaml:"video"`
	// VNC gives VMs a VNC server, and lets clients connect to it.
	VNC bool `yaml:"vnc"`
}

// CPU is the guest's CPU model, in libvirt's words.
type CPU struct {
	Mode  string `yaml:"mode"`
	Model string `yaml:"model"`
}

// Watchdog is the guest's watchdog device, in libvirt's words; an empty model is none.
type Watchdog struct {
	Model  string `yaml:"model"`
	Action string `yaml:"action"`
}

//go:embed default.yaml
var defaultYAML []byte

// DefaultYAML is the commented default configuration.
func DefaultYAML() []byte { return defaultYAML }

// Default is the configuration that the commented default file stands for.
func Default() Config {
	var c Config
	if err := decode("default.yaml", defaultYAML, &c); err != nil {
		panic(err) // the file is part of the program and held by a test
	}
	return c
}
