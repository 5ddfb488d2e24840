package gossip

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/paramedic-ha/paramedic/gossip/durable"
)

// Host is one line of the roster: a host that was ever seen here. It is the denominator of every majority, so only
// Forget takes one off.
type Host struct {
	Node  string         `json:"node"`
	Addr  netip.AddrPort `json:"addr"` // where it was last
	Zone  string         `json:"zone,omitempty"`
	API   string         `json:"api,omitempty"`
	First time.Time      `json:"first_seen"`
	Last  time.Time      `json:"last_seen"` // now for a member; written to disk when it leaves and once an hour
	Alive bool           `json:"-"`         // it is a member at this moment
}

const (
	rosterFile    = "roster.json"
	rosterVersion = 1
	maxRoster     = 4096 // hosts; further ones are members, but not remembered
)

type rosterDocument struct {
	Version int    `json:"version"`
	Hosts   []Host `json:"hosts"`
}

// roster is safe for several goroutines. Its file is replaced as a whole.
type roster struct {
	path string // empty: not kept

	writing sync.Mutex // one at a time writes the file, the newest last; taken before mu

	mu    sync.Mutex
	hosts map[string]Host
	dirty bool
	full  bool
}

// loadRoster reads the file. One that can't be understood is set aside under another name, and reported: hosts that
// are members come back by themselves.
func loadRoster(dir string) (*roster, error) {
	r := &roster{hosts: map[string]Host{}}
	if dir == "" {
		return r, nil
	}
	r.path = filepath.Join(dir, rosterFile)
	if err := durable.Sweep(r.path); err != nil {
		return nil, fmt.Errorf("read the roster: %w", err)
	}
	text, err := os.ReadFile(r.path)
	if errors.Is(err, os.ErrNotExist) {
		return r, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the roster: %w", err)
	}
	hosts, err := parseRoster(text)
	if err != nil {
		aside := r.path + ".damaged"
		if e := os.Rename(r.path, aside); e != nil {
			return nil, fmt.Errorf("read the roster: %s: %w; set it aside: %w", r.path, err, e)
		}
		return r, &damagedError{fmt.Errorf("read the roster: %s: %w; it is now %s, and hosts that are away are missed only once they were back", r.path, err, aside)}
	}
	r.hosts = hosts
	return r, nil
}

// damagedError tells of a file that was set aside; the roster beside it is usable.
type damagedError struct{ error }

func (e *damagedError) Unwrap() error { return e.error }

func parseRoster(text []byte) (map[string]Host, error) {
	var doc rosterDocument
	if err := json.Unmarshal(text, &doc); err != nil {
		return nil, err
	}
	if doc.Version != rosterVersion {
		return nil, fmt.Errorf("version %d is unknown, this agent writes %d", doc.Version, rosterVersion)
	}
	hosts := make(map[string]Host, len(doc.Hosts))
	for i, h := range doc.Hosts {
		if err := checkName(h.Node); err != nil {
			return nil, fmt.Errorf("host %d: %w", i+1, err)
		}
		if !h.Addr.IsValid() {
			return nil, fmt.Errorf("host %d (%s) has no address", i+1, h.Node)
		}
		hosts[h.Node] = h
	}
	if len(hosts) > maxRoster {
		return nil, fmt.Errorf("%d hosts are more than %d", len(hosts), maxRoster)
	}
	return hosts, nil
}

// seen brings the roster up to date with members of this moment.
func (r *roster) seen(members []Member, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, m := range members {
		old, known := r.hosts[m.Node]
		if !known && len(r.hosts) >= maxRoster {
			r.full = true
			continue
		}
		h := Host{Node: m.Node, Addr: m.Addr, Zone: m.Zone, API: m.API, First: old.First, Last: now.Round(0)}
		if !known {
			h.First = h.Last
		}
		if old.Addr != h.Addr || old.Zone != h.Zone || old.API != h.API || h.Last.Sub(old.Last) > time.Hour {
			r.dirty = true
		}
		r.hosts[m.Node] = h
	}
}

// overflowed reports, once each time, that members found no place.
func (r *roster) overflowed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	full := r.full
	r.full = false
	return full
}

// list is a copy, by name.
func (r *roster) list() []Host {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.SortedFunc(maps.Values(r.hosts), func(a, b Host) int { return strings.Compare(a.Node, b.Node) })
}

func (r *roster) forget(node string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, known := r.hosts[node]
	delete(r.hosts, node)
	r.dirty = r.dirty || known
	return known
}

// save writes the file if something worth it changed, or always when told to.
func (r *roster) save(always bool) error {
	r.writing.Lock()
	defer r.writing.Unlock()
	r.mu.Lock()
	if r.path == "" || !r.dirty && !always {
		r.mu.Unlock()
		return nil
	}
	r.dirty = false
	r.mu.Unlock()
	text, err := json.MarshalIndent(rosterDocument{rosterVersion, r.list()}, "", " ")
	if err == nil {
		err = durable.Replace(r.path, append(text, '\n'))
	}
	if err != nil {
		r.mu.Lock()
		r.dirty = true
		r.mu.Unlock()
		return fmt.Errorf("write the roster: %w", err)
	}
	return nil
}

// checkName judges the name of a node: it stands in paths, logs and on the wire.
func checkName(name string) error {
	switch {
	case name == "":
		return errors.New("the name of a node is empty")
	case len(name) > maxName:
		return fmt.Errorf("the name of a node is %d bytes long, more than %d", len(name), maxName)
	case strings.ContainsFunc(name, func(c rune) bool { return c <= ' ' || c == '/' || c == 0x7f || c == 0xfffd }):
		return fmt.Errorf("the name %q of a node holds a space, a slash or a control character", name)
	}
	return nil
}
