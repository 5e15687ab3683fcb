// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"strings"

	"github.com/vmlet/vmlet/pkg/vm"
)

// setupOf is what the agent is told of the pod. cloud-init hears of name and resolver too,
// from the seed; what it makes of them differs between images.
func setupOf(sb vm.Sandbox) vm.GuestSetup {
	return vm.GuestSetup{
		Hostname:   hostnameOf(sb.Spec),
		Sysctls:    sb.Spec.Sysctls,
		ResolvConf: resolvConf(dnsOf(sb)),
	}
}

func hostnameOf(spec vm.SandboxSpec) string {
	if spec.Hostname != "" {
		return spec.Hostname
	}
	return spec.Name
}

// dnsOf is the pod's resolver, else the network's.
func dnsOf(sb vm.Sandbox) vm.DNSConfig {
	if dns := sb.Spec.DNS; !isEmpty(dns) || sb.Status.Network == nil {
		return dns
	}
	return sb.Status.Network.DNS
}

func isEmpty(dns vm.DNSConfig) bool {
	return len(dns.Servers) == 0 && len(dns.Searches) == 0 && len(dns.Options) == 0
}

// resolvConf writes resolv.conf(5), nil where nothing is known of a resolver.
func resolvConf(dns vm.DNSConfig) []byte {
	if isEmpty(dns) {
		return nil
	}
	var text strings.Builder
	for _, server := range dns.Servers {
		text.WriteString("nameserver " + server + "\n")
	}
	if len(dns.Searches) > 0 {
		text.WriteString("search " + strings.Join(dns.Searches, " ") + "\n")
	}
	if len(dns.Options) > 0 {
		text.WriteString("options " + strings.Join(dns.Options, " ") + "\n")
	}
	return []byte(text.String())
}
