// SPDX-License-Identifier: Apache-2.0

package nics

import (
	"errors"
	"fmt"
	"net"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// rulePriority is that of all our rules, and of no other's: it is how they are known. It is before the main table's.
const rulePriority = 30317

// setRules has packets from the addresses of the plans look into their interface's own table first, and forgets rules for addresses that
// are not among them.
func setRules(plans []plan) error {
	wanted := map[string]int{}
	for _, p := range plans {
		link, err := netlink.LinkByName(p.name)
		if err != nil {
			return fmt.Errorf("look for %s: %w", p.name, err)
		}
		for _, address := range p.addresses {
			wanted[address.IP.String()] = tableOf(link.Attrs().Index)
		}
	}
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		if err := setRulesOf(family, wanted); err != nil {
			return err
		}
	}
	return nil
}

func setRulesOf(family int, wanted map[string]int) error {
	rules, err := netlink.RuleList(family)
	if errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EOPNOTSUPP) {
		return nil // a kernel without rules, or without the family
	}
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return fmt.Errorf("list routing rules: %w", err)
	}
	have := map[string]bool{}
	for i := range rules {
		r := rules[i]
		if r.Priority != rulePriority || r.Src == nil {
			continue
		}
		if table, ok := wanted[r.Src.IP.String()]; ok && table == r.Table && !have[r.Src.IP.String()] {
			have[r.Src.IP.String()] = true
			continue
		}
		if err := netlink.RuleDel(&r); err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("remove the routing rule for %s: %w", r.Src, err)
		}
	}
	for text, table := range wanted {
		ip := net.ParseIP(text)
		if (ip.To4() != nil) != (family == netlink.FAMILY_V4) || have[text] {
			continue
		}
		if err := netlink.RuleAdd(ruleFor(family, ip, table)); err != nil {
			return fmt.Errorf("add a routing rule for %s: %w", text, err)
		}
	}
	return nil
}

func ruleFor(family int, ip net.IP, table int) *netlink.Rule {
	bits := 128
	if ip4 := ip.To4(); ip4 != nil {
		ip, bits = ip4, 32
	}
	r := netlink.NewRule()
	r.Family, r.Priority, r.Table = family, rulePriority, table
	r.Src = &net.IPNet{IP: ip, Mask: net.CIDRMask(bits, bits)}
	return r
}
