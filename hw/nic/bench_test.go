package nic

import (
	"fmt"
	"testing"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// benchTable is a bond under a bridge with taps, and the message of a leg without and with carrier.
func benchTable(b *testing.B, taps int) (table *table, down, up, leave []byte) {
	table = newTable(nowhere(b), nil, nil)
	messages := bondMessages()
	for i := range taps {
		messages = append(messages, message{index: 100 + i, name: fmt.Sprintf("vnet%d", i+1), flags: running, attrs: []*nl.RtAttr{
			u32(unix.IFLA_MASTER, 9), info("tun", nl.NewRtAttr(nl.IFLA_TUN_TYPE, nl.Uint8Attr(unix.IFF_TAP))),
		}})
	}
	for _, m := range messages {
		u, err := decode(unix.RTM_NEWLINK, m.bytes())
		if err != nil {
			b.Fatal(err)
		}
		table.apply(u.link, true, clock())
	}
	table.delta(true, clock())
	m := messages[0]
	up = m.bytes()
	m.flags = unix.IFF_UP
	down = m.bytes()
	m.flags = 0
	return table, down, up, m.bytes()
}

func benchFlip(b *testing.B, taps int, whole bool, a, z []byte, table *table) {
	b.Run(fmt.Sprintf("taps=%d", taps), func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			payload := a
			if i%2 == 1 {
				payload = z
			}
			u, err := decode(unix.RTM_NEWLINK, payload)
			if err != nil {
				b.Fatal(err)
			}
			table.apply(u.link, false, clock())
			if len(table.edges(clock())) == 0 {
				b.Fatal("no edge")
			}
			if whole {
				table.delta(false, clock())
			}
		}
	})
}

// BenchmarkEdge is from the bytes of a lost carrier to the event.
func BenchmarkEdge(b *testing.B) {
	for _, taps := range []int{50, 1000} {
		table, down, up, _ := benchTable(b, taps)
		benchFlip(b, taps, false, down, up, table)
	}
}

// BenchmarkBridges is the same where each domain has a bridge of its own (the hybrid plug of Open vSwitch).
func BenchmarkBridges(b *testing.B) {
	for _, n := range []int{50, 1000} {
		table, _, up, off := benchTable(b, 0)
		for i := range n {
			for _, m := range []message{
				{index: 100 + 3*i, name: fmt.Sprintf("qbr%d", i), flags: running, attrs: []*nl.RtAttr{info("bridge")}},
				{index: 101 + 3*i, name: fmt.Sprintf("qvb%d", i), flags: running, attrs: []*nl.RtAttr{
					u32(unix.IFLA_MASTER, 100+3*i), info("veth"),
				}},
				{index: 102 + 3*i, name: fmt.Sprintf("tap%d", i), flags: running, attrs: []*nl.RtAttr{
					u32(unix.IFLA_MASTER, 100+3*i), info("tun", nl.NewRtAttr(nl.IFLA_TUN_TYPE, nl.Uint8Attr(unix.IFF_TAP))),
				}},
			} {
				u, err := decode(unix.RTM_NEWLINK, m.bytes())
				if err != nil {
					b.Fatal(err)
				}
				table.apply(u.link, true, clock())
			}
		}
		table.delta(true, clock())
		benchFlip(b, n, true, off, up, table)
	}
}

// BenchmarkRelist is the list of every half minute, with nothing new in it.
func BenchmarkRelist(b *testing.B) {
	for _, taps := range []int{50, 1000} {
		table, _, _, _ := benchTable(b, taps)
		var l listing
		for index := range table.links {
			m := message{index: index, name: table.links[index].name, flags: running, attrs: []*nl.RtAttr{
				u32(unix.IFLA_MASTER, 9), info("tun", nl.NewRtAttr(nl.IFLA_TUN_TYPE, nl.Uint8Attr(unix.IFF_TAP))),
			}}
			u, err := decode(unix.RTM_NEWLINK, m.bytes())
			if err != nil {
				b.Fatal(err)
			}
			l.links = append(l.links, u.link)
		}
		b.Run(fmt.Sprintf("taps=%d", taps), func(b *testing.B) {
			for b.Loop() {
				table.relist(l, clock())
				table.delta(false, clock())
			}
		})
	}
}

// BenchmarkReshape is a link switched off or on, with everything derived anew.
func BenchmarkReshape(b *testing.B) {
	for _, taps := range []int{50, 1000} {
		table, _, up, off := benchTable(b, taps)
		benchFlip(b, taps, true, off, up, table)
	}
}
