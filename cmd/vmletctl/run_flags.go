// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/pflag"
)

// runFlags is what "run" is asked for.
type runFlags struct {
	name, namespace, hostname string
	memory                    string
	cpus                      int
	userData                  string
	sshKeys                   []string
	logDir                    string
	annotations               []string
	pull                      pullPolicy
	wait                      bool
}

func (f *runFlags) define(flags *pflag.FlagSet) {
	f.pull = pullMissing
	flags.StringVar(&f.name, "name", "", "`NAME` of the pod (default: the image's, and four random digits)")
	flags.StringVar(&f.namespace, "namespace", "default", "`NAMESPACE` of the pod")
	flags.StringVar(&f.hostname, "hostname", "", "host `NAME` of the guest (default: the pod's name)")
	flags.StringVar(&f.memory, "memory", "", "RAM of the guest, a `SIZE` such as 512MiB (default: the node's)")
	flags.IntVar(&f.cpus, "cpus", 0, "`NUMBER` of virtual CPUs of the guest (default: the node's)")
	flags.StringVar(&f.userData, "user-data", "", "`FILE` with cloud-init user-data, - for stdin")
	flags.StringArrayVar(&f.sshKeys, "ssh-key", nil, "`FILE` with public keys that may log in; may be repeated")
	flags.StringVar(&f.logDir, "log-dir", defaultLogDir, "`FOLDER` for the log of the serial console, as seen by vmlet")
	flags.StringArrayVar(&f.annotations, "annotation", nil, "annotation of the pod, `KEY=VALUE`; may be repeated")
	flags.Var(&f.pull, "pull", "when to pull the image: always, missing or never")
	flags.BoolVar(&f.wait, "wait", false, fmt.Sprintf("wait for the guest's agent (for --timeout, or %s)", defaultWait))
}

// pullPolicy says when an image is pulled.
type pullPolicy string

const (
	pullAlways  pullPolicy = "always"
	pullMissing pullPolicy = "missing"
	pullNever   pullPolicy = "never"
)

// String, Set and Type make a policy a flag.
func (p *pullPolicy) String() string { return string(*p) }

// Set takes one of the policies.
func (p *pullPolicy) Set(s string) error {
	all := []string{string(pullAlways), string(pullMissing), string(pullNever)}
	if !slices.Contains(all, s) {
		return fmt.Errorf("it is none of %s", strings.Join(all, ", "))
	}
	*p = pullPolicy(s)
	return nil
}

// Type is what the help shows for the value.
func (*pullPolicy) Type() string { return "WHEN" }
