package cli

import (
	"fmt"
	"maps"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/paramedic-ha/paramedic/agent/api"
	"github.com/paramedic-ha/paramedic/agent/config"
)

type subscriptionsCommand struct{}

func (subscriptionsCommand) Run(s *session) error {
	list, err := s.subscriptions()
	if err != nil {
		return err
	}
	return s.out.show(api.SubscriptionList{Subscriptions: list}, func() {
		if len(list) == 0 {
			s.out.text("no subscriptions")
			return
		}
		var rows [][]string
		id := shortIDs(list, func(sub api.Subscription) string { return sub.ID })
		for _, sub := range list {
			state := "active"
			switch {
			case sub.Expires != nil && !sub.Expires.After(s.out.now()):
				state = "over since " + s.out.clock(sub.Expires)
			case sub.Paused != "":
				state = "paused: " + word(sub.Paused)
			case sub.Locked != "":
				state = "locked: its secrets can't be opened here (" + word(sub.Locked) + ")"
			case troubled(sub.EndpointStates) > 0:
				state = fmt.Sprintf("%d of %d fail", troubled(sub.EndpointStates), len(sub.EndpointStates))
			case sub.Unreachable != nil:
				state = "unreachable since " + s.out.clock(sub.Unreachable)
			case sub.Expires != nil:
				state = "until " + s.out.clock(sub.Expires)
			}
			rows = append(rows, []string{
				word(id(sub.ID)), word(sub.Name), word(sub.Role), word(sub.Origin), state,
				word(describeFilter(sub.Filter)), word(strings.Join(sub.Endpoints, " ")),
			})
		}
		s.out.table([]string{"ID", "NAME", "ROLE", "FROM", "STATE", "FILTER", "ENDPOINTS"}, rows)
	})
}

// troubled is how many endpoints are not told what they should be.
func troubled(states []api.EndpointState) (n int) {
	for _, e := range states {
		if e.Failing != nil || e.Unreachable != nil || e.Resting != nil || e.Parked > 0 {
			n++
		}
	}
	return n
}

func (s *session) subscriptions() ([]api.Subscription, error) {
	list := api.SubscriptionList{Subscriptions: []api.Subscription{}}
	err := s.client.get(s.ctx, "/v1/subscriptions", nil, &list)
	return list.Subscriptions, err
}

func (s *session) findSubscription(name string) (api.Subscription, error) {
	list, err := s.subscriptions()
	if err != nil {
		return api.Subscription{}, err
	}
	return findOne(list, "subscription", "paramedic subscriptions", name, func(sub api.Subscription) (string, string, string) {
		return sub.ID, sub.Name, sub.Name + " " + strings.Join(sub.Endpoints, " ")
	})
}

// filterKey is one key that --filter takes.
type filterKey struct {
	name string
	list *[]string // of a filter
	word *string

	labels map[string][]string // by what follows labelPrefix
}

// labelPrefix begins the keys of labels; the name follows.
const labelPrefix = "labels."

func filterKeys(f *api.Filter) []filterKey {
	return []filterKey{
		{name: "projects", list: &f.Projects},
		{name: "domains", list: &f.Domains},
		{name: "hosts", list: &f.Hosts},
		{name: "zones", list: &f.Zones},
		{name: labelPrefix + "NAME", labels: f.Labels},
		{name: "resources", list: &f.Resources},
		{name: "resource_types", list: &f.ResourceTypes},
		{name: "conditions", list: &f.Conditions},
		{name: "kinds", list: &f.Kinds},
		{name: "states", list: &f.States},
		{name: "vnfs", list: &f.VNFs},
		{name: "sol.notification_types", list: &f.SOL.NotificationTypes},
		{name: "sol.faulty_resource_types", list: &f.SOL.FaultyResourceTypes},
		{name: "sol.perceived_severities", list: &f.SOL.PerceivedSeverities},
		{name: "sol.event_types", list: &f.SOL.EventTypes},
		{name: "sol.probable_causes", list: &f.SOL.ProbableCauses},
		{name: "min_severity", word: &f.MinSeverity},
		{name: "min_confidence", word: &f.MinConfidence},
	}
}

func describeFilter(f api.Filter) string {
	var parts []string
	for _, k := range filterKeys(&f) {
		switch {
		case k.labels != nil:
			for _, name := range slices.Sorted(maps.Keys(k.labels)) {
				parts = append(parts, labelPrefix+name+"="+strings.Join(k.labels[name], ","))
			}
		case k.list != nil && len(*k.list) > 0:
			parts = append(parts, k.name+"="+strings.Join(*k.list, ","))
		case k.word != nil && *k.word != "" && (k.name != "min_confidence" || *k.word != "confirmed"):
			parts = append(parts, k.name+"="+*k.word)
		}
	}
	return strings.Join(parts, " ")
}

// parseFilter reads key=value[,value…] texts.
func parseFilter(texts []string) (*api.Filter, error) {
	if len(texts) == 0 {
		return nil, nil
	}
	f := &api.Filter{
		Projects: []string{}, Domains: []string{}, ResourceTypes: []string{}, Conditions: []string{}, Kinds: []string{}, States: []string{},
		Hosts: []string{}, Zones: []string{}, Labels: map[string][]string{}, Resources: []string{},
	}
	keys := filterKeys(f)
next:
	for _, text := range texts {
		name, value, ok := strings.Cut(text, "=")
		if !ok || value == "" {
			return nil, fmt.Errorf("--filter %q: want key=value, for instance min_severity=major", text)
		}
		var known []string
		for _, k := range keys {
			known = append(known, k.name)
			label, isLabel := strings.CutPrefix(name, labelPrefix)
			switch {
			case k.labels != nil && isLabel && label != "":
				k.labels[label] = append(k.labels[label], strings.Split(value, ",")...)
			case k.name != name || k.labels != nil:
				continue
			case k.list != nil:
				*k.list = append(*k.list, strings.Split(value, ",")...)
			default:
				*k.word = value
			}
			continue next
		}
		return nil, fmt.Errorf("--filter %q: unknown key %q; known are: %s", text, name, strings.Join(known, ", "))
	}
	return f, nil
}

type subscribeCommand struct {
	URL        []string      `arg:"" name:"url" help:"Where to send notifications; of several, see --deliver-to."`
	Filter     []string      `help:"What is wanted, key=value[,value…], repeatable: projects, domains, hosts, zones, labels.NAME, resources, resource_types, conditions, kinds, states, min_severity, min_confidence." placeholder:"KEY=VALUE" sep:"none"`
	Format     string        `help:"The form of the notifications." default:"native"`
	DeliverTo  string        `help:"Which URLs are told: the first that answers, or all." enum:"first,all" default:"first"`
	Name       string        `help:"What people call it. Default: the host of the URL." placeholder:"NAME"`
	SecretFile string        `help:"Sign notifications with the secret in this file (see keygen)." placeholder:"FILE"`
	Role       string        `help:"admin: the physical cause; consumer: an abstract one. Default: what you are." enum:",admin,consumer" default:"" placeholder:"ROLE"`
	ExpiresIn  time.Duration `help:"When it ends unless it is renewed, for instance 24h. Default: never." placeholder:"TIME"`
	Rate       int           `help:"How many requests a minute the URL takes. Default: any number." placeholder:"N"`
	Heartbeat  time.Duration `help:"How often to tell the URL that all is watched, for instance 30s. Default: never." placeholder:"TIME"`
	Link       linkFlags     `embed:""`
	Verify     bool          `help:"Ask the URL first whether it wants this." default:"true" negatable:""`
}

func (c *subscribeCommand) Run(s *session) error {
	filter, err := parseFilter(c.Filter)
	if err != nil {
		return &exitError{exitUsage, err}
	}
	request := api.SubscriptionRequest{
		Name: c.Name, Endpoints: c.URL, Format: c.Format, Role: c.Role, Verify: &c.Verify, Filter: filter, Rate: c.Rate, DeliverTo: c.DeliverTo,
	}
	if c.Heartbeat != 0 {
		request.Heartbeat = c.Heartbeat.String()
	}
	if c.ExpiresIn != 0 {
		request.ExpiresIn = c.ExpiresIn.String()
	}
	if request.Name == "" {
		if u, err := url.Parse(c.URL[0]); err == nil {
			request.Name = u.Host
		}
	}
	if c.SecretFile != "" {
		if request.Secret, err = readSecretFile(c.SecretFile); err != nil {
			return err
		}
	}
	if err := c.Link.apply(&request); err != nil {
		return err
	}
	var done api.Subscribed
	if err := s.client.do(s.ctx, "POST", "/v1/subscriptions", request, &done); err != nil {
		return err
	}
	return s.out.show(done, func() {
		s.out.text(fmt.Sprintf("subscribed: %s %s", word(done.Subscription.ID), word(done.Subscription.Name)))
		for _, a := range done.Snapshot {
			s.out.text(fmt.Sprintf("stands now: %s %s %s on %s", word(short(a.ID)), s.out.paint(word(a.Severity)), word(a.Condition), word(a.Resource)))
		}
	})
}

// linkFlags say how requests leave. What is secret is named by its file, since everybody may read a command line.
type linkFlags struct {
	CAFile       string `name:"ca-file" help:"Take https certificates by the authorities in this PEM file alone." placeholder:"FILE"`
	CertFile     string `help:"Show this certificate to https endpoints (PEM)." and:"client" placeholder:"FILE"`
	KeyFile      string `help:"Its key (PEM, without a passphrase)." and:"client" placeholder:"FILE"`
	ServerName   string `help:"What the certificate of the endpoint must name. Default: its host." placeholder:"NAME"`
	User         string `help:"Authorize requests as this user." and:"basic" xor:"login" placeholder:"NAME"`
	PasswordFile string `help:"The user's password is in this file." and:"basic" placeholder:"FILE"`
	BearerFile   string `help:"Authorize requests by the token in this file." xor:"login" placeholder:"FILE"`
	Direct       bool   `help:"Past the proxy of the hosts (notify.proxy)."`
}

func (f linkFlags) apply(request *api.SubscriptionRequest) error {
	if f.CAFile+f.CertFile+f.ServerName != "" {
		request.TLS = &api.TLSRequest{ServerName: f.ServerName}
	}
	var err error
	if f.CAFile != "" {
		_, problem := config.ReadAuthorities(f.CAFile)
		if request.TLS.CA, err = contents(f.CAFile, problem); err != nil {
			return err
		}
	}
	if f.CertFile != "" {
		_, problem := config.ReadCertificate(f.CertFile, f.KeyFile)
		if request.TLS.Certificate, err = contents(f.CertFile, problem); err != nil {
			return err
		}
		if request.TLS.Key, err = contents(f.KeyFile, nil); err != nil {
			return err
		}
	}
	if f.User != "" {
		_, problem := config.ReadPassword(f.User, f.PasswordFile)
		password, err := contents(f.PasswordFile, problem)
		if err != nil {
			return err
		}
		request.Auth = &api.AuthRequest{Basic: &api.BasicRequest{User: f.User, Password: strings.TrimRight(password, "\r\n")}}
	}
	if f.BearerFile != "" {
		_, problem := config.ReadToken(f.BearerFile)
		token, err := contents(f.BearerFile, problem)
		if err != nil {
			return err
		}
		request.Auth = &api.AuthRequest{Bearer: &api.BearerRequest{Token: strings.TrimRight(token, "\r\n")}}
	}
	if f.Direct {
		request.Proxy = "direct"
	}
	return nil
}

// contents reads a file of which a check has said what is wrong, if anything is.
func contents(file string, problem *config.Problem) (string, error) {
	if problem != nil {
		return "", fmt.Errorf("file %s: %s: %s", file, problem.Message, problem.Remedy)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("file: %w", err)
	}
	return string(text), nil
}

type unsubscribeCommand struct {
	Subscription string `arg:"" help:"Its name, its id, or the beginning of its id."`
}

func (c *unsubscribeCommand) Run(s *session) error {
	sub, err := s.findSubscription(c.Subscription)
	if err != nil {
		return err
	}
	if err := s.client.do(s.ctx, "DELETE", "/v1/subscriptions/"+url.PathEscape(sub.ID), nil, nil); err != nil {
		return err
	}
	return s.out.show(sub, func() { s.out.text("ended: " + word(sub.ID) + " " + word(sub.Name)) })
}

type testCommand struct {
	Subscription string `arg:"" help:"Its name, its id, or the beginning of its id."`
}

func (c *testCommand) Run(s *session) error {
	sub, err := s.findSubscription(c.Subscription)
	if err != nil {
		return err
	}
	var stages api.Stages
	if err := s.client.do(s.ctx, "POST", "/v1/subscriptions/"+url.PathEscape(sub.ID)+"/test", nil, &stages); err != nil {
		return err
	}
	return s.out.show(stages, func() {
		text := "taken by " + word(sub.Name)
		if stages.T08 != nil && stages.T09 != nil {
			text += " after " + milliseconds(stages.T09.Sub(*stages.T08)) + " ms"
		}
		s.out.text(text)
	})
}

type deliveriesCommand struct {
	State        string `help:"pending or parked; default both." enum:"pending,parked,all" default:"all"`
	Subscription string `help:"Only those to this one, by its name, its id or the beginning of it." placeholder:"SUBSCRIPTION"`
	Retry        string `help:"Try one again now, by its id or the beginning of it." placeholder:"DELIVERY" xor:"word"`
	RetryAll     bool   `help:"Try all of them again now." xor:"word"`
	Discard      string `help:"Take one for made: its consumer is not told of it, and of what comes after it as ever." placeholder:"DELIVERY" xor:"word"`
}

func (c *deliveriesCommand) Run(s *session) error {
	query := url.Values{}
	if c.State != "all" {
		query.Set("state", c.State)
	}
	if c.Subscription != "" {
		sub, err := s.findSubscription(c.Subscription)
		if err != nil {
			return err
		}
		query.Set("subscription", sub.ID)
	}
	list := api.DeliveryList{Deliveries: []api.Delivery{}}
	if err := s.client.get(s.ctx, "/v1/deliveries", query, &list); err != nil {
		return err
	}
	one := func(id, method, path, done string) error {
		d, err := findOne(list.Deliveries, "delivery", "paramedic deliveries", id, func(d api.Delivery) (string, string, string) {
			return d.ID, "", "to " + d.Subscription + ": " + d.Condition + " on " + d.Resource
		})
		if err != nil {
			return err
		}
		if err := s.client.do(s.ctx, method, "/v1/deliveries/"+url.PathEscape(d.ID)+path, nil, nil); err != nil {
			return err
		}
		return s.out.show(d, func() { s.out.text(done + word(d.ID)) })
	}
	switch {
	case c.Retry != "":
		return one(c.Retry, "POST", "/retry", "on its way again: ")
	case c.Discard != "":
		return one(c.Discard, "DELETE", "", "discarded: ")
	case c.RetryAll:
		return c.retryAll(s, list.Deliveries)
	}
	return s.out.show(list, func() {
		if len(list.Deliveries) == 0 {
			s.out.text("nothing is owed")
			return
		}
		var rows [][]string
		var notes []string
		id := shortIDs(list.Deliveries, func(d api.Delivery) string { return d.ID })
		for _, d := range list.Deliveries {
			rows = append(rows, []string{
				word(id(d.ID)), word(standing(d)), word(short(d.Subscription)), word(d.Resource), word(d.Condition), word(d.Revision),
				strconv.Itoa(d.Attempts), strconv.Itoa(d.Superseded), s.out.clock(d.NextAttempt), word(d.By),
			})
			note := ""
			switch {
			case d.LastError == "":
			case d.Endpoint != "":
				note = word(d.Endpoint) + ": " + word(d.LastError)
			default:
				note = word(d.LastError)
			}
			notes = append(notes, note)
		}
		s.out.noted([]string{"DELIVERY", "STATE", "FOR", "RESOURCE", "CONDITION", "REV", "TRIES", "OLDER", "NEXT", "BY"}, rows, notes)
	})
}

// standing is the state of a delivery in a word.
func standing(d api.Delivery) string {
	if d.Again {
		return "again"
	}
	return d.State
}

// retryAll asks for all that is owed to those subscriptions to which something listed is.
func (c *deliveriesCommand) retryAll(s *session, list []api.Delivery) error {
	var sum api.RetriedCount
	asked := map[string]bool{}
	for _, d := range list {
		if asked[d.Consumer] {
			continue
		}
		asked[d.Consumer] = true
		var n api.RetriedCount
		if err := s.client.do(s.ctx, "POST", "/v1/subscriptions/"+url.PathEscape(d.Consumer)+"/retry", nil, &n); err != nil {
			return err
		}
		sum.Retried += n.Retried
	}
	return s.out.show(sum, func() { s.out.text(strconv.Itoa(sum.Retried) + " on their way again") })
}
