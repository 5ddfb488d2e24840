package notify

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"github.com/paramedic-ha/paramedic/notify/delivery"
	"github.com/paramedic-ha/paramedic/notify/format"
)

// requestRate is what WebHook-Request-Rate asks for, in requests a minute.
const requestRate = "6000"

// verify has every endpoint prove that it wants this subscription, as its form has it: by answering a GET with 204; or by
// echoing a signed challenge, or by the handshake of the CloudEvents HTTP webhook specification (section 4). It returns the
// lowest rate allowed, in requests a minute; 0 is any.
func (n *Notifier) verify(ctx context.Context, s Subscription) (rate int, err error) {
	if s.Locked() {
		return 0, ErrLocked
	}
	out := newSender(n.cfg.UserAgent, n.way(s), n.cfg.Now)
	defer out.close()
	for i, endpoint := range s.Endpoints {
		if s.form().Verification == format.VerifyGet {
			if err := n.get(ctx, out, s, endpoint); err != nil {
				return 0, fmt.Errorf("%w: endpoints[%d]: GET: %w", ErrVerification, i, err)
			}
			continue
		}
		echo := n.challenge(ctx, out, s, endpoint)
		if echo == nil {
			continue
		}
		allowed, err := n.handshake(ctx, out, s, endpoint)
		if err != nil {
			return 0, fmt.Errorf("%w: endpoints[%d]: challenge: %w; OPTIONS handshake: %w", ErrVerification, i, echo, err)
		}
		if rate == 0 || allowed > 0 && allowed < rate {
			rate = allowed
		}
	}
	return rate, nil
}

func (n *Notifier) challenge(ctx context.Context, out *sender, s Subscription, endpoint string) error {
	want := rand.Text()
	id := uuid.NewString()
	body, err := s.form().Message(format.Message{
		ID: id, Type: format.TypeVerification, Label: n.cfg.Label, Reporter: n.cfg.Node, Subscription: s.ID,
		Abstract: s.Role == RoleConsumer, At: n.cfg.Now(), Challenge: want,
	})
	if err != nil {
		return err
	}
	r := s.request(id, body)
	r.want = 4096
	a := out.post(ctx, []string{endpoint}, r)
	if a.outcome.Verdict != delivery.Settled {
		return fmt.Errorf("%s", a.outcome.Err)
	}
	var got struct {
		Challenge string `json:"challenge"`
	}
	if err := json.Unmarshal(a.body, &got); err != nil {
		return fmt.Errorf(`answered %d without {"challenge": …}`, a.status)
	}
	if subtle.ConstantTimeCompare([]byte(got.Challenge), []byte(want)) != 1 {
		return fmt.Errorf("answered with another challenge")
	}
	return nil
}

// get tests a callback as ETSI GS NFV-SOL 003 has it (7.4.7.3.2).
func (n *Notifier) get(ctx context.Context, out *sender, s Subscription, endpoint string) error {
	ctx, cancel := context.WithTimeout(ctx, totalTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, endpoint, nil)
	if err != nil {
		return err
	}
	req.Header.Set("User-Agent", n.cfg.UserAgent)
	s.Credentials.authorize(req.Header, "Authorization")
	resp, err := out.transport.Load().RoundTrip(req)
	if err != nil {
		return fmt.Errorf("%s", plain(err))
	}
	drain(resp.Body, 0)
	if resp.StatusCode != http.StatusNoContent {
		return fmt.Errorf("answered %d, want 204", resp.StatusCode)
	}
	return nil
}

func (n *Notifier) handshake(ctx context.Context, out *sender, s Subscription, endpoint string) (rate int, err error) {
	ctx, cancel := context.WithTimeout(ctx, totalTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodOptions, endpoint, nil)
	if err != nil {
		return 0, err
	}
	req.Header.Set("User-Agent", n.cfg.UserAgent)
	req.Header["WebHook-Request-Origin"] = []string{n.cfg.Label}
	req.Header["WebHook-Request-Rate"] = []string{requestRate}
	s.Credentials.authorize(req.Header, "Authorization")
	resp, err := out.transport.Load().RoundTrip(req)
	if err != nil {
		return 0, fmt.Errorf("%s", plain(err))
	}
	drain(resp.Body, 0)
	allowed := resp.Header.Values("WebHook-Allowed-Origin")
	if resp.StatusCode/100 != 2 || !slices.ContainsFunc(allowed, func(o string) bool {
		return o == "*" || strings.EqualFold(o, n.cfg.Label)
	}) {
		return 0, fmt.Errorf("answered %d, and WebHook-Allowed-Origin doesn't name %q", resp.StatusCode, n.cfg.Label)
	}
	if r, err := strconv.Atoi(resp.Header.Get("WebHook-Allowed-Rate")); err == nil && r > 0 {
		rate = r
	}
	return rate, nil
}
