package lab

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Switch is a network that many hosts hang on: a bridge in a host of its own. It can be told who does not reach whom and
// how much it loses; cables and carriers stay as they are, as when a switch between two others fails.
type Switch struct {
	host *Host

	mu      sync.Mutex
	ports   []*Port
	taps    int               // of machines
	groups  map[*Host]int     // see Split
	blocked map[[2]*Host]bool // see Block
	loss    int               // percent
}

// Port is where a host hangs on a switch.
type Port struct {
	*Cable // A is the host's end, B the switch's

	sw  *Switch
	ip  net.IP
	mac net.HardwareAddr
}

const switchBridge = "lan"

// Frames are judged where the bridge passes them on, each copy of a broadcast by itself.
const switchRules = `
table bridge lab {
	set cut { type ifname . ifname; }
	chain loss {}
	chain forward {
		type filter hook forward priority 0; policy accept;
		iifname . oifname @cut drop
		jump loss
	}
}
`

// Switch makes a switch without ports.
func (l *Lab) Switch(name string) (*Switch, error) {
	h, err := l.Host(name)
	if err != nil {
		return nil, err
	}
	if err := h.Bridge(switchBridge); err != nil {
		return nil, err
	}
	s := &Switch{host: h, groups: map[*Host]int{}, blocked: map[[2]*Host]bool{}}
	return s, s.nft(switchRules)
}

func (s *Switch) nft(rules string) error {
	const file = Dir + "/rules.nft"
	if err := s.host.WriteFile(file, rules, 0o600); err != nil {
		return err
	}
	_, err := s.host.Run("nft", "-f", file)
	return err
}

// Attach plugs a host in: its end has that name and that address (with a prefix length).
//
// Everybody on the switch knows everybody's hardware address for good. The kernel's neighbour table is one for all
// namespaces and small (1024 entries, see arp(7)): some dozens of hosts would fill it, for the other labs of this machine too.
func (s *Switch) Attach(h *Host, link, addr string) (*Port, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ip, _, err := net.ParseCIDR(addr)
	if err != nil {
		return nil, fmt.Errorf("attach %s: %w", h.Name, err)
	}
	cable, err := h.lab.Connect(End{Host: h, Link: link, Addr: addr},
		End{Host: s.host, Link: fmt.Sprint("port", len(s.ports)+1), Master: switchBridge})
	if err != nil {
		return nil, fmt.Errorf("attach %s: %w", h.Name, err)
	}
	p := &Port{Cable: cable, sw: s, ip: ip}
	err = h.netlinkInside(func(nl *netlink.Handle) error {
		l, err := nl.LinkByName(link)
		if err == nil {
			p.mac = l.Attrs().HardwareAddr
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("attach %s: %w", h.Name, err)
	}
	s.ports = append(s.ports, p)
	return p, s.introduce(p)
}

// introduce tells a port of all others and all others of it.
func (s *Switch) introduce(p *Port) error {
	var others []*Port
	for _, o := range s.ports {
		if o != p {
			others = append(others, o)
		}
	}
	errs := []error{p.learn(others...)}
	for _, o := range others {
		errs = append(errs, o.learn(p))
	}
	return errors.Join(errs...)
}

func (p *Port) learn(others ...*Port) error {
	return p.A.Host.netlinkInside(func(nl *netlink.Handle) error {
		l, err := nl.LinkByName(p.A.Link)
		if err != nil {
			return fmt.Errorf("host %s: find %s: %w", p.A.Host.Name, p.A.Link, err)
		}
		for _, o := range others {
			n := &netlink.Neigh{LinkIndex: l.Attrs().Index, Family: unix.AF_INET, State: netlink.NUD_PERMANENT, IP: o.ip, HardwareAddr: o.mac}
			if err := nl.NeighSet(n); err != nil {
				return fmt.Errorf("host %s: neighbour %s: %w", p.A.Host.Name, o.ip, err)
			}
		}
		return nil
	})
}

// Readdress gives the host another address there.
func (p *Port) Readdress(addr string) error {
	p.sw.mu.Lock()
	defer p.sw.mu.Unlock()
	now, err := netlink.ParseAddr(addr)
	if err != nil {
		return fmt.Errorf("readdress %s: %w", p.A.Host.Name, err)
	}
	err = p.A.Host.netlinkInside(func(nl *netlink.Handle) error {
		l, err := nl.LinkByName(p.A.Link)
		if err != nil {
			return err
		}
		old, err := nl.AddrList(l, unix.AF_INET)
		if err != nil {
			return err
		}
		for i := range old {
			if err := nl.AddrDel(l, &old[i]); err != nil {
				return err
			}
		}
		return nl.AddrAdd(l, now)
	})
	if err != nil {
		return fmt.Errorf("readdress %s: %w", p.A.Host.Name, err)
	}
	p.ip = now.IP
	return p.sw.introduce(p) // who loses its last address forgets its neighbours
}

// Split lets no host of one group reach one of another. A host in none reaches everybody. It replaces the split before it;
// Split() heals.
func (s *Switch) Split(groups ...[]*Host) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.groups)
	for i, g := range groups {
		for _, h := range g {
			s.groups[h] = i + 1
		}
	}
	return s.apply()
}

// Block cuts two hosts off from each other, or ends that.
func (s *Switch) Block(a, b *Host, block bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.blocked[[2]*Host{a, b}], s.blocked[[2]*Host{b, a}] = block, block
	return s.apply()
}

// Lose drops that percentage of all frames, at random, each way.
func (s *Switch) Lose(percent int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.loss = percent
	return s.apply()
}

// Heal ends all of these.
func (s *Switch) Heal() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.groups)
	clear(s.blocked)
	s.loss = 0
	return s.apply()
}

// apply makes the rules what the fields say, in one step.
func (s *Switch) apply() error {
	var cut []string
	for _, a := range s.ports {
		for _, b := range s.ports {
			ga, gb := s.groups[a.A.Host], s.groups[b.A.Host]
			if ga != 0 && gb != 0 && ga != gb || s.blocked[[2]*Host{a.A.Host, b.A.Host}] {
				cut = append(cut, fmt.Sprintf("%q . %q", a.B.Link, b.B.Link))
			}
		}
	}
	rules := "flush set bridge lab cut\nflush chain bridge lab loss\n"
	if len(cut) > 0 {
		rules += "add element bridge lab cut { " + strings.Join(cut, ", ") + " }\n"
	}
	if s.loss > 0 {
		rules += fmt.Sprintf("add rule bridge lab loss numgen random mod 100 <= %d drop\n", s.loss-1)
	}
	return s.nft(rules)
}
