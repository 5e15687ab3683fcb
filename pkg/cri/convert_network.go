// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"fmt"
	"net/netip"
	"strings"
	"unicode"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vmlet/vmlet/pkg/vm"
)

// dnsConfig converts the resolver's configuration. It ends up as lines of the guest's
// resolv.conf, so every entry must be one word.
func dnsConfig(dns *runtimeapi.DNSConfig) (vm.DNSConfig, error) {
	for i, server := range dns.GetServers() {
		if _, err := netip.ParseAddr(server); err != nil {
			return vm.DNSConfig{}, invalid(fmt.Sprintf("config.dns_config.servers[%d]", i), "%q is no IP address", server)
		}
	}
	for _, list := range []struct {
		field string
		words []string
	}{{"searches", dns.GetSearches()}, {"options", dns.GetOptions()}} {
		for i, word := range list.words {
			if word == "" || strings.ContainsFunc(word, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }) {
				return vm.DNSConfig{}, invalid(fmt.Sprintf("config.dns_config.%s[%d]", list.field, i), "%q must be one word", word)
			}
		}
	}
	return vm.DNSConfig{Servers: dns.GetServers(), Searches: dns.GetSearches(), Options: dns.GetOptions()}, nil
}

var protocols = map[runtimeapi.Protocol]string{
	runtimeapi.Protocol_TCP:  "tcp",
	runtimeapi.Protocol_UDP:  "udp",
	runtimeapi.Protocol_SCTP: "sctp",
}

// portMappings converts the mappings that ask for a port of the host. The others only
// describe the pod: "The value 0 has explicit semantic meaning: it indicates NO host
// port should be allocated."
func portMappings(mappings []*runtimeapi.PortMapping) ([]vm.PortMapping, error) {
	var out []vm.PortMapping
	taken := map[vm.PortMapping]bool{}
	for i, m := range mappings {
		field := fmt.Sprintf("config.port_mappings[%d]", i)
		if err := checkPortMapping(field, m); err != nil {
			return nil, err
		}
		if m.GetHostPort() == 0 {
			continue
		}
		p := vm.PortMapping{
			Protocol: protocols[m.GetProtocol()], ContainerPort: m.GetContainerPort(), HostPort: m.GetHostPort(), HostIP: m.GetHostIp(),
		}
		place := vm.PortMapping{Protocol: p.Protocol, HostPort: p.HostPort, HostIP: p.HostIP}
		if taken[place] {
			return nil, invalid(field, "%s port %d of the host is mapped twice", p.Protocol, p.HostPort)
		}
		taken[place] = true
		out = append(out, p)
	}
	return out, nil
}

func checkPortMapping(field string, m *runtimeapi.PortMapping) error {
	if _, ok := protocols[m.GetProtocol()]; !ok {
		return invalid(field+".protocol", "%d is unknown", m.GetProtocol())
	}
	if p := m.GetHostPort(); p < 0 || p > 65535 {
		return invalid(field+".host_port", "%d is not within 0-65535", p)
	}
	// 0 is "not specified", which will do as long as nothing is to be sent there.
	if p := m.GetContainerPort(); p < 0 || p > 65535 || p == 0 && m.GetHostPort() != 0 {
		return invalid(field+".container_port", "%d is not within 1-65535", p)
	}
	if ip := m.GetHostIp(); ip != "" {
		if _, err := netip.ParseAddr(ip); err != nil {
			return invalid(field+".host_ip", "%q is no IP address", ip)
		}
	}
	return nil
}
