package cli

import (
	"fmt"
	"net/url"
	"strings"

	"github.com/paramedic-ha/paramedic/agent/api"
)

// say posts a word about an alarm, and returns the alarm as it is then.
func (s *session) say(id, what string, body any) (api.Alarm, error) {
	a, err := s.findAlarm(id)
	if err != nil {
		return api.Alarm{}, err
	}
	var after api.Alarm
	err = s.client.do(s.ctx, "POST", "/v1/alarms/"+url.PathEscape(a.ID)+"/"+what, body, &after)
	return after, err
}

func (p *printer) said(did string, a api.Alarm) {
	p.text(fmt.Sprintf("%s: %s %s on %s", did, word(short(a.ID)), word(a.Condition), word(a.Resource)))
}

type ackCommand struct {
	Alarm   string `arg:"" help:"The id of the alarm, or its beginning."`
	Comment string `help:"What you know about it." placeholder:"TEXT"`
}

func (c *ackCommand) Run(s *session) error {
	a, err := s.say(c.Alarm, "ack", api.AckRequest{Comment: c.Comment})
	if err != nil {
		return err
	}
	return s.out.show(a, func() { s.out.said("acknowledged", a) })
}

type commentCommand struct {
	Alarm string   `arg:"" help:"The id of the alarm, or its beginning."`
	Text  []string `arg:"" help:"What is to be known."`
}

func (c *commentCommand) Run(s *session) error {
	a, err := s.say(c.Alarm, "comments", api.CommentRequest{Text: strings.Join(c.Text, " ")})
	if err != nil {
		return err
	}
	return s.out.show(a, func() { s.out.said("noted", a) })
}

type clearCommand struct {
	Alarm   string `arg:"" help:"The id of the alarm, or its beginning."`
	Comment string `help:"Why it is over." placeholder:"TEXT"`
}

func (c *clearCommand) Run(s *session) error {
	a, err := s.say(c.Alarm, "clear", api.ClearRequest{Comment: c.Comment})
	if err != nil {
		return err
	}
	return s.out.show(a, func() {
		switch {
		case a.State != "cleared":
			s.out.said("to be cleared by its host", a)
		case a.ClearedBy != nil && a.ClearedBy.Dismissed:
			s.out.said("cleared", a)
			s.out.text("its source says still that it is wrong, and is heard again when it was well once")
		default:
			s.out.said("cleared", a)
		}
	})
}
