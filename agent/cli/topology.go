package cli

import (
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/paramedic-ha/paramedic/agent/api"
	"github.com/paramedic-ha/paramedic/agent/ledger"
)

type topologyCommand struct {
	Resource string `arg:"" optional:"" help:"Only what hangs together with this one, for instance nic/eth0; or the name of a domain."`
	Host     string `help:"Of another host, as far as it is known here." placeholder:"NAME"`
}

func (c *topologyCommand) Run(s *session) error {
	query := url.Values{}
	var list api.ResourceList
	if c.Resource != "" && !strings.Contains(c.Resource, "/") {
		r, err := s.named(c.Resource, c.Host)
		if err != nil {
			return err
		}
		c.Resource, c.Host = r.ID, r.Host
	}
	if c.Resource != "" {
		query.Set("root", c.Resource)
	}
	if c.Host != "" {
		query.Set("host", c.Host)
	}
	if err := s.client.get(s.ctx, "/v1/topology", query, &list); err != nil {
		return err
	}
	return s.out.show(list, func() {
		if len(list.Resources) == 0 {
			s.out.text("no resources: the sources of this host have stated none")
			return
		}
		for _, line := range drawTopology(list.Resources, c.Resource, s.out.paint) {
			s.out.cut(line)
		}
		if len(list.Resources) > 0 && list.Resources[0].Source == elsewhere {
			s.out.line("")
			first := list.Resources[0]
			s.out.text(aged(first.Host, s.out.age(first.AsOf)) + ": its domains, and what an alarm stands on")
		}
	})
}

// elsewhere is the source of what another host tells.
const elsewhere = ledger.Source

// named finds the one resource of this name or id: on the host that is given, else on the agent's own, else on any. Its
// Host is empty when the agent finds it by its id alone.
func (s *session) named(name, host string) (api.Resource, error) {
	pick := func(all []api.Resource) (api.Resource, error) {
		return findOne(all, "resource", "paramedic topology", name, func(r api.Resource) (string, string, string) { return r.ID, r.Name, r.Name })
	}
	query := url.Values{}
	if host != "" {
		query.Set("host", host)
	} else {
		var own api.ResourceList
		if err := s.client.get(s.ctx, "/v1/topology", nil, &own); err != nil {
			return api.Resource{}, err
		}
		if r, err := pick(own.Resources); err == nil {
			r.Host = ""
			return r, nil
		}
	}
	all, err := s.resources(query)
	if err != nil {
		return api.Resource{}, err
	}
	return pick(all)
}

// drawTopology draws what needs what, from those that nobody needs (domains) down to what all stands on. A resource
// whose needs have been drawn already is only named again, so shared parts and cycles end. With a root, resources are
// what it stands on and what stands on it; what else the latter need is left out.
func drawTopology(resources []api.Resource, root string, paint func(string) string) []string {
	d := &drawing{byID: make(map[string]api.Resource), drawn: make(map[string]bool), whole: make(map[string]bool), paint: paint}
	needed := make(map[string]bool)
	for _, r := range resources {
		d.byID[r.ID] = r
		if root == "" {
			d.whole[r.ID] = true
		}
	}
	if root != "" {
		d.below(root)
	}
	for _, r := range resources {
		for _, n := range r.Needs {
			for _, id := range n.Of {
				needed[id] = true
			}
		}
	}
	for _, r := range resources {
		if !needed[r.ID] {
			d.draw(r.ID, "", "", "", "")
		}
	}
	for _, r := range resources { // a cycle that nobody outside of it needs
		if !d.drawn[r.ID] {
			d.draw(r.ID, "", "", "", "")
		}
	}
	return d.lines
}

type drawing struct {
	byID  map[string]api.Resource
	drawn map[string]bool
	whole map[string]bool // all that it needs belongs into the drawing
	lines []string
	paint func(string) string
}

// below notes id and all that it stands on.
func (d *drawing) below(id string) {
	if d.whole[id] {
		return
	}
	d.whole[id] = true
	for _, n := range d.byID[id].Needs {
		for _, of := range n.Of {
			d.below(of)
		}
	}
}

// draw draws id below its holder, whose own name it does not repeat: a domain's UUID is long.
func (d *drawing) draw(id, holder, first, rest, mode string) {
	shown := id
	if _, name, ok := strings.Cut(holder, "/"); ok {
		shown = strings.Replace(id, "/"+name+"/", "/…/", 1)
	}
	r, known := d.byID[id]
	if !known {
		d.lines = append(d.lines, first+word(shown)+mode+"  (not seen)")
		return
	}
	text := first + word(shown)
	if r.Name != "" && !strings.HasSuffix(id, "/"+r.Name) {
		text += " " + word(r.Name)
	}
	text += mode + "  " + d.paint(word(r.State))
	if r.OwnState != r.State {
		text += " (by itself " + word(r.OwnState) + ")"
	}
	if r.Unknown {
		text += " unknown"
	}
	if r.Inactive {
		text += " inactive"
	}
	if len(r.Conditions) > 0 {
		text += "  " + word(strings.Join(r.Conditions, ", "))
	}
	if d.drawn[id] && len(r.Needs) > 0 {
		d.lines = append(d.lines, text+"  (see above)")
		return
	}
	d.lines = append(d.lines, text)
	d.drawn[id] = true

	type edge struct{ id, mode string }
	var edges []edge
	for _, n := range r.Needs {
		mode := ""
		switch {
		case n.Mode == "k-of-n":
			mode = fmt.Sprintf(" [%d of %d]", n.K, len(n.Of))
		case n.Mode != "all-of":
			mode = " [" + word(n.Mode) + "]"
		}
		of := slices.Clone(n.Of)
		slices.Sort(of)
		for _, needed := range of {
			if _, known := d.byID[needed]; known || d.whole[id] {
				edges = append(edges, edge{needed, mode})
			}
		}
	}
	for i, e := range edges {
		if i == len(edges)-1 {
			d.draw(e.id, id, rest+"└─ ", rest+"   ", e.mode)
		} else {
			d.draw(e.id, id, rest+"├─ ", rest+"│  ", e.mode)
		}
	}
}
