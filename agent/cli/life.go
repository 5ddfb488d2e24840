package cli

import (
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/paramedic-ha/paramedic/agent/api"
	"github.com/paramedic-ha/paramedic/agent/config"
)

// change changes a subscription and says what became of it.
func (s *session) change(name string, change api.SubscriptionChange, said func(api.Subscription) string) error {
	sub, err := s.findSubscription(name)
	if err != nil {
		return err
	}
	var done api.Subscription
	if err := s.client.do(s.ctx, "PATCH", "/v1/subscriptions/"+url.PathEscape(sub.ID), change, &done); err != nil {
		return err
	}
	return s.out.show(done, func() { s.out.text(said(done)) })
}

type pauseCommand struct {
	Subscription string `arg:"" help:"Its name, its id, or the beginning of its id."`
	Reason       string `help:"Why; it is shown wherever the subscription is." default:"by hand"`
}

func (c *pauseCommand) Run(s *session) error {
	return s.change(c.Subscription, api.SubscriptionChange{Paused: &c.Reason}, func(sub api.Subscription) string {
		return "paused: " + word(sub.Name) + ": what happens now is owed, and sent when it is resumed"
	})
}

type resumeCommand struct {
	Subscription string `arg:"" help:"Its name, its id, or the beginning of its id."`
}

func (c *resumeCommand) Run(s *session) error {
	none := ""
	return s.change(c.Subscription, api.SubscriptionChange{Paused: &none}, func(sub api.Subscription) string {
		return "resumed: " + word(sub.Name)
	})
}

type renewCommand struct {
	Subscription string        `arg:"" help:"Its name, its id, or the beginning of its id."`
	ExpiresIn    time.Duration `help:"How long from now it ends, for instance 24h." placeholder:"TIME" xor:"end" required:""`
	Never        bool          `help:"It does not end by itself any more." xor:"end" required:""`
}

func (c *renewCommand) Run(s *session) error {
	change := api.SubscriptionChange{}
	if c.Never {
		never := ""
		change.Expires = &never
	} else {
		change.ExpiresIn = c.ExpiresIn.String()
	}
	return s.change(c.Subscription, change, func(sub api.Subscription) string {
		if sub.Expires == nil {
			return "renewed: " + word(sub.Name) + " does not end by itself"
		}
		return "renewed: " + word(sub.Name) + " ends at " + s.out.clock(sub.Expires)
	})
}

type rotateCommand struct {
	Subscription string        `arg:"" help:"Its name, its id, or the beginning of its id."`
	SecretFile   string        `help:"The new secret (see keygen)." placeholder:"FILE" required:""`
	Overlap      time.Duration `help:"How long the old secret signs beside the new one." placeholder:"TIME" default:"24h"`
}

func (c *rotateCommand) Run(s *session) error {
	secret, err := readSecretFile(c.SecretFile)
	if err != nil {
		return err
	}
	change := api.SubscriptionChange{Secret: &secret}
	if c.Overlap > 0 {
		change.SecretOverlap = c.Overlap.String()
	}
	return s.change(c.Subscription, change, func(sub api.Subscription) string {
		var signs []string
		for _, k := range sub.Secrets {
			text := word(k.Fingerprint)
			if k.Until != nil {
				text += " until " + s.out.clock(k.Until)
			}
			signs = append(signs, text)
		}
		return "signed by: " + strings.Join(signs, ", ")
	})
}

// readSecretFile is the text of a file with a secret, which has been found sound.
func readSecretFile(file string) (string, error) {
	_, problem := config.ReadSecret(file)
	secret, err := contents(file, problem)
	if err != nil {
		return "", fmt.Errorf("secret %w", err)
	}
	return strings.TrimSpace(secret), nil
}
