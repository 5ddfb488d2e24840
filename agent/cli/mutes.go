package cli

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/paramedic-ha/paramedic/agent/api"
)

type muteCommand struct {
	List muteListCommand `cmd:"" default:"1" help:"What consumers are not told for a while."`
	Add  muteAddCommand  `cmd:"" help:"Keep consumers from being told of some alarms until a time; with --id, replace the mute of that id."`
	End  muteEndCommand  `cmd:"" help:"End a mute before its time: what stands still is told."`
}

type muteListCommand struct{}

func (muteListCommand) Run(s *session) error {
	list, err := s.mutes()
	if err != nil {
		return err
	}
	return s.out.show(api.MuteList{Mutes: list}, func() {
		if len(list) == 0 {
			s.out.text("no mutes")
			return
		}
		var rows [][]string
		for _, m := range list {
			rows = append(rows, []string{word(muteName(m.ID)), s.out.clock(m.Until), word(m.By), word(describeMute(m)), word(m.Reason)})
		}
		s.out.table([]string{"MUTE", "UNTIL", "BY", "ALARMS", "REASON"}, rows)
	})
}

func (s *session) mutes() ([]api.Mute, error) {
	list := api.MuteList{Mutes: []api.Mute{}}
	err := s.client.get(s.ctx, "/v1/mutes", nil, &list)
	return list.Mutes, err
}

// describeMute says which alarms a mute is about.
func describeMute(m api.Mute) string {
	var parts []string
	for _, k := range []struct {
		name string
		list []string
	}{
		{"host", m.Hosts}, {"zone", m.Zones}, {"resource", m.Resources}, {"type", m.ResourceTypes}, {"condition", m.Conditions},
	} {
		if len(k.list) > 0 {
			parts = append(parts, k.name+"="+strings.Join(k.list, ","))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(m.Labels)) {
		parts = append(parts, "label="+name+":"+strings.Join(m.Labels[name], ","))
	}
	if m.MinSeverity != "" {
		parts = append(parts, "from="+m.MinSeverity)
	}
	if m.MaxSeverity != "" {
		parts = append(parts, "up-to="+m.MaxSeverity)
	}
	return strings.Join(parts, " ")
}

type muteAddCommand struct {
	ID          string   `help:"A name of your choice; one is made without." placeholder:"ID"`
	Host        []string `help:"Alarms of this host; a glob. Flags of several kinds must all fit, of one kind any." placeholder:"NAME"`
	Zone        []string `help:"Of hosts in this zone; a glob." placeholder:"ZONE"`
	Label       []string `help:"Of hosts with this label." placeholder:"NAME=VALUE"`
	Resource    []string `help:"On this resource: a glob such as nic/*." placeholder:"ID"`
	Type        []string `help:"On resources of this type." placeholder:"TYPE"`
	Condition   []string `help:"Of this condition, or class of cause." placeholder:"CONDITION"`
	MinSeverity string   `help:"At least so severe." placeholder:"SEVERITY"`
	MaxSeverity string   `help:"At most so severe: what grows worse is told." placeholder:"SEVERITY"`
	For         string   `help:"How long, for instance 2h." placeholder:"TIME" xor:"end"`
	Until       string   `help:"Until when, RFC 3339." placeholder:"TIME" xor:"end"`
	Reason      string   `help:"Why." placeholder:"TEXT"`
}

func (c *muteAddCommand) Run(s *session) error {
	if c.For == "" && c.Until == "" {
		return &exitError{exitUsage, errors.New("say with --for or --until when the mute ends: it may last 30 days")}
	}
	body := api.MuteRequest{
		ID: c.ID, Hosts: c.Host, Zones: c.Zone, Resources: c.Resource, ResourceTypes: c.Type, Conditions: c.Condition,
		MinSeverity: c.MinSeverity, MaxSeverity: c.MaxSeverity, For: c.For, Until: c.Until, Reason: c.Reason,
	}
	for _, label := range c.Label {
		name, value, ok := strings.Cut(label, "=")
		if !ok {
			return &exitError{exitUsage, fmt.Errorf("--label %q: want name=value", label)}
		}
		if body.Labels == nil {
			body.Labels = make(map[string][]string)
		}
		body.Labels[name] = append(body.Labels[name], value)
	}
	var m api.Mute
	if err := s.client.do(s.ctx, "PUT", "/v1/mutes", body, &m); err != nil {
		return err
	}
	return s.out.show(m, func() {
		s.out.pairs([][2]string{{"mute", word(m.ID)}, {"alarms", word(describeMute(m))}, {"until", s.out.exact(m.Until)}})
	})
}

type muteEndCommand struct {
	Mute string `arg:"" help:"The id of the mute, or its beginning."`
}

func (c *muteEndCommand) Run(s *session) error {
	list, err := s.mutes()
	if err != nil {
		return err
	}
	m, err := findOne(list, "mute", "paramedic mute list", c.Mute, func(m api.Mute) (string, string, string) { return m.ID, "", describeMute(m) })
	if err != nil {
		return err
	}
	if err := s.client.do(s.ctx, "DELETE", "/v1/mutes/"+url.PathEscape(m.ID), nil, nil); err != nil {
		return err
	}
	return s.out.show(m, func() { s.out.text("ended: " + word(m.ID)) })
}

// muteName is the id, shortened when nobody chose it.
func muteName(id string) string {
	if len(id) == 36 {
		return short(id)
	}
	return id
}
