// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"io/fs"
	"os"

	"github.com/spf13/pflag"

	"github.com/vmlet/vmlet/pkg/config"
)

// defaultConfigFile is read if it is there and no other was named.
const defaultConfigFile = "/etc/vmlet/config.yaml"

// options are the flags: the file and what wins over it.
type options struct {
	file string
	set  *pflag.FlagSet
	over config.Config
}

// flags declares the flags. Each stands for the key of the configuration it names.
func (o *options) flags(set *pflag.FlagSet) {
	o.set = set
	set.StringVar(&o.file, "config", "", "configuration file (default "+defaultConfigFile+" if there is one)")
	set.StringVar(&o.over.Listen.Socket, "listen", "", "listen.socket: unix socket that CRI is served on")
	set.StringVar(&o.over.Root, "root", "", "root: folder of images, disks and records")
	set.StringVar(&o.over.State, "state", "", "state: folder that a reboot clears")
	set.StringVar(&o.over.Libvirt.URI, "libvirt-uri", "", "libvirt.uri")
	set.StringVar(&o.over.Virtualization, "virtualization", "", "virtualization: auto, kvm or tcg")
	set.StringVar(&o.over.CNI.ConfDir, "cni-conf-dir", "", "cni.confDir")
	set.StringSliceVar(&o.over.CNI.BinDirs, "cni-bin-dirs", nil, "cni.binDirs")
	set.StringVar(&o.over.Metrics.Address, "metrics-address", "", "metrics.address")
	set.StringVar(&o.over.Log.Level, "log-level", "", "log.level: debug, info, warn or error")
	set.StringVar(&o.over.Log.Format, "log-format", "", "log.format: json or console")
}

// load reads the file and lays the flags over it.
func (o *options) load() (config.Config, error) {
	c, err := o.readFile()
	if err != nil {
		return c, err
	}
	for name, lay := range map[string]func(){
		"listen":          func() { c.Listen.Socket = o.over.Listen.Socket },
		"root":            func() { c.Root = o.over.Root },
		"state":           func() { c.State = o.over.State },
		"libvirt-uri":     func() { c.Libvirt.URI = o.over.Libvirt.URI },
		"virtualization":  func() { c.Virtualization = o.over.Virtualization },
		"cni-conf-dir":    func() { c.CNI.ConfDir = o.over.CNI.ConfDir },
		"cni-bin-dirs":    func() { c.CNI.BinDirs = o.over.CNI.BinDirs },
		"metrics-address": func() { c.Metrics.Address = o.over.Metrics.Address },
		"log-level":       func() { c.Log.Level = o.over.Log.Level },
		"log-format":      func() { c.Log.Format = o.over.Log.Format },
	} {
		if o.set.Changed(name) {
			lay()
		}
	}
	return c, c.Validate()
}

func (o *options) readFile() (config.Config, error) {
	if o.file != "" {
		return config.Load(o.file)
	}
	if _, err := os.Stat(defaultConfigFile); errors.Is(err, fs.ErrNotExist) {
		return config.Default(), nil
	}
	return config.Load(defaultConfigFile)
}
