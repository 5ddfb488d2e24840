package notify

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
)

// reserved are the addresses that no notification goes to unless notify.allow_callbacks names a network within: this host,
// its links, and what clouds tell their machines secrets at.
var reserved = []struct {
	what     string
	networks []netip.Prefix
}{
	{"a loopback address", prefixes("127.0.0.0/8", "::1/128")},
	{"a link-local address", prefixes("169.254.0.0/16", "fe80::/10")},
	{"an unspecified address", prefixes("0.0.0.0/8", "::/128")},
	{"a multicast or broadcast address", prefixes("224.0.0.0/4", "255.255.255.255/32", "ff00::/8")},
	{"an address of a metadata service", prefixes("fd00:ec2::254/128")},
}

func prefixes(texts ...string) []netip.Prefix {
	out := make([]netip.Prefix, len(texts))
	for i, t := range texts {
		out[i] = netip.MustParsePrefix(t)
	}
	return out
}

var errCallback = errors.New("notify.allow_callbacks")

// CheckCallback returns why a notification must not be sent to an address, or nil. With networks in allow the address must lie
// in one of them. A reserved one must lie in one that is itself within the reserved range: 0.0.0.0/0 does not allow 127.0.0.1,
// 127.0.0.0/8 does. An address that leads to an IPv4 one (6to4, NAT64, Teredo) must be no reserved one by either.
func CheckCallback(allow []netip.Prefix, addr netip.Addr) error {
	addr = addr.Unmap().WithZone("")
	if len(allow) > 0 && !slices.ContainsFunc(allow, func(p netip.Prefix) bool { return p.Contains(addr) }) {
		return fmt.Errorf("%s is in no network of %w", addr, errCallback)
	}
	for _, a := range append(embedded(addr), addr) {
		for _, r := range reserved {
			for _, network := range r.networks {
				if network.Contains(a) && !slices.ContainsFunc(allow, func(p netip.Prefix) bool {
					return p.Contains(a) && p.Bits() >= network.Bits()
				}) {
					return fmt.Errorf("%s is %s, and no network within %s is in %w", shownAddr(addr, a), r.what, network, errCallback)
				}
			}
		}
	}
	return nil
}

func shownAddr(addr, in netip.Addr) string {
	if addr == in {
		return addr.String()
	}
	return fmt.Sprintf("%s (%s)", addr, in)
}

// embedded are the IPv4 addresses that an IPv6 one leads to by its form.
func embedded(addr netip.Addr) []netip.Addr {
	if !addr.Is6() {
		return nil
	}
	b := addr.As16()
	at := func(i int) netip.Addr { return netip.AddrFrom4([4]byte(b[i : i+4])) }
	switch {
	case netip.MustParsePrefix("2002::/16").Contains(addr): // 6to4, RFC 3056
		return []netip.Addr{at(2)}
	case netip.MustParsePrefix("64:ff9b::/96").Contains(addr): // NAT64, RFC 6052
		return []netip.Addr{at(12)}
	case netip.MustParsePrefix("64:ff9b:1::/48").Contains(addr): // local NAT64, RFC 8215: where it stands depends on the prefix, which is not known
		return slices.DeleteFunc([]netip.Addr{
			netip.AddrFrom4([4]byte{b[6], b[7], b[9], b[10]}), netip.AddrFrom4([4]byte{b[7], b[9], b[10], b[11]}), at(9), at(12),
		}, func(a netip.Addr) bool { return a.As4()[0] == 0 })
	case netip.MustParsePrefix("2001::/32").Contains(addr): // Teredo, RFC 4380: the server, and the client inverted
		return []netip.Addr{at(4), netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, ^binary.BigEndian.Uint32(b[12:]))))}
	case netip.MustParsePrefix("::/96").Contains(addr) && !addr.IsUnspecified() && addr != netip.IPv6Loopback(): // IPv4-compatible, RFC 4291
		return []netip.Addr{at(12)}
	}
	return nil
}

// LiteralCallback is the address that an endpoint names by itself, without a name server.
func LiteralCallback(endpoint string) (addr netip.Addr, ok bool) {
	u, err := url.Parse(endpoint)
	if err != nil {
		return netip.Addr{}, false
	}
	addr, err = netip.ParseAddr(u.Hostname())
	return addr, err == nil
}
