package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/paramedic-ha/paramedic/agent/api"
)

type topCommand struct {
	Interval time.Duration `help:"How often to look, at least 200ms." default:"2s" placeholder:"TIME"`
	Sort     string        `help:"Hosts by health (the worst first), name or domains." enum:"health,name,domains" default:"health"`
	Once     bool          `short:"n" help:"One picture, and end; so it is when the output is not a terminal."`
}

const (
	leastInterval = 200 * time.Millisecond
	// topAlarms is how many alarms a picture has; the hosts count them all.
	topAlarms = 500
	// profileEvery is at which look the latencies are asked for, too: they are much to send.
	profileEvery = 5
	topTimeout   = 5 * time.Second
)

func (c *topCommand) Run(s *session) error {
	if c.Interval < leastInterval {
		return &exitError{exitUsage, fmt.Errorf("--interval %v: want %v at least", c.Interval, leastInterval)}
	}
	var first picture
	if err := s.look(s.ctx, &first, true); err != nil {
		return err
	}
	screen, isTerminal := s.terminal()
	if c.Once || !isTerminal || s.out.format != "table" {
		return s.out.show(first, func() {
			v := topView{picture: first, sort: c.Sort, paint: s.out.paint, now: s.now()}
			for _, line := range v.frame(s.out.wide, 0) {
				s.out.line(line)
			}
		})
	}
	v := topView{picture: first, sort: c.Sort, every: c.Interval, live: true, paint: s.out.paint}
	return s.watchTop(v, screen)
}

// picture is what top shows, at one time.
type picture struct {
	At      time.Time   `json:"at"`
	Status  api.Status  `json:"status"`
	Hosts   []api.Host  `json:"hosts"`
	Alarms  []api.Alarm `json:"alarms"` // the newest 500 that stand, and the newest 500 that are critical
	More    bool        `json:"more_alarms"`
	Latency []stage     `json:"latency"`
}

// look takes a picture; without the latencies those of the last one stay.
func (s *session) look(ctx context.Context, p *picture, latency bool) error {
	ctx, cancel := context.WithTimeout(ctx, topTimeout)
	defer cancel()
	next := picture{Latency: p.Latency}
	var hosts api.HostList
	var page api.AlarmPage
	list := api.StageList{}
	err := s.client.get(ctx, "/v1/status", nil, &next.Status)
	if err == nil {
		err = s.client.get(ctx, "/v1/hosts", nil, &hosts)
	}
	if err == nil {
		err = s.client.get(ctx, "/v1/alarms", url.Values{"limit": {strconv.Itoa(topAlarms)}}, &page)
	}
	more := page.Next != ""
	if err == nil && more { // the gravest must not be missing because they are old
		var grave api.AlarmPage
		query := url.Values{"limit": {strconv.Itoa(topAlarms)}, "min_severity": {severityOrder[0]}}
		if err = s.client.get(ctx, "/v1/alarms", query, &grave); err == nil {
			page.Alarms = append(page.Alarms, slices.DeleteFunc(grave.Alarms, func(g api.Alarm) bool {
				return slices.ContainsFunc(page.Alarms, func(a api.Alarm) bool { return a.ID == g.ID })
			})...)
		}
	}
	if err == nil && latency {
		if err = s.client.get(ctx, "/v1/profile", nil, &list); err == nil {
			next.Latency = profile(list)
		}
	}
	if err != nil {
		return err
	}
	next.At, next.Hosts, next.Alarms, next.More = s.now(), hosts.Hosts, page.Alarms, more
	*p = next
	return nil
}

// topView is all that a frame is made of.
type topView struct {
	picture
	now    time.Time
	every  time.Duration
	sort   string
	paused bool
	live   bool // there is somebody at the keys
	err    error
	paint  func(string) string
}

// frame draws the picture into w columns and h lines; below one: as many as it takes.
func (v *topView) frame(w, h int) []string {
	head := v.header()
	foot := ""
	if v.live {
		foot = "q quit  p pause  s sort hosts by " + map[string]string{"health": "name", "name": "domains", "domains": "health"}[v.sort]
	}
	hosts, alarms := v.hostTable(), v.alarmTable()
	if h < 1 {
		var lines []string
		lines = append(lines, head...)
		lines = append(append(lines, ""), hosts.draw(w, 0, v.paint)...)
		lines = append(append(lines, ""), alarms.draw(w, 0, v.paint)...)
		return v.cut(lines, w)
	}
	room := h
	if foot != "" {
		room--
	}
	// What stands is what one looks for: a low screen keeps the first two lines, and then the tables.
	least := min(len(head), 2)
	if room-len(head) < 10 {
		head = head[:max(least, min(len(head), room-8))]
	}
	lines := slices.Clone(head)
	gap := 0
	if left := room - len(lines); left >= 12 || left >= 2+hosts.height()+alarms.height() {
		gap = 1
	}
	room -= len(lines) + 2*gap
	forHosts, forAlarms := share(room, hosts.height(), alarms.height())
	add := func(t topTable, height int) {
		if height < 2 {
			return
		}
		if gap > 0 {
			lines = append(lines, "")
		}
		lines = append(lines, t.draw(w, height, v.paint)...)
	}
	add(hosts, forHosts)
	add(alarms, forAlarms)
	if foot != "" {
		for len(lines) < h-1 {
			lines = append(lines, "")
		}
		lines = append(lines[:h-1], foot)
	}
	return v.cut(lines[:min(len(lines), h)], w)
}

// share divides lines between two tables that want so many: neither gets more than it wants, nor less than half when it wants that.
func share(room, a, b int) (forA, forB int) {
	room = max(0, room)
	switch half := room / 2; {
	case a+b <= room:
		return a, b
	case a <= half:
		return a, room - a
	case b <= half:
		return room - b, b
	default:
		return half, room - half
	}
}

// cut keeps lines within w columns. Colours take none; they stand in whole cells, which fit already.
func (v *topView) cut(lines []string, w int) []string {
	for i, line := range lines {
		if w > 0 && columns(line) > w {
			lines[i] = shorten(line, w)
		}
	}
	return lines
}

// header are the lines above the tables, the most needed first.
func (v *topView) header() []string {
	st := v.Status
	title := "paramedic " + word(st.Node)
	if st.Label != "" {
		title += " (" + word(st.Label) + ")"
	}
	title += "  " + v.At.Format("15:04:05")
	switch {
	case v.err != nil:
		title = "OLD: as it was " + ago(v.now.Sub(v.At)) + " ago; " + word(v.err.Error())
	case v.paused:
		title += "  PAUSED"
	case v.live:
		title += "  every " + v.every.String()
	}
	states := make(map[string]int)
	for _, h := range v.Hosts {
		states[h.State]++
	}
	var parts []string
	for _, state := range badStates {
		if n := states[state]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, strings.ToUpper(state)))
		}
	}
	hosts := fmt.Sprintf("hosts %d", len(v.Hosts))
	if len(parts) > 0 {
		hosts += ": " + strings.Join(parts, ", ")
	}
	owed := fmt.Sprintf("owed %d", st.Deliveries.Pending)
	if st.Deliveries.Parked > 0 {
		owed += fmt.Sprintf(", PARKED %d", st.Deliveries.Parked)
	}
	if st.Deliveries.Oldest != nil {
		owed += ", oldest " + ago(v.now.Sub(*st.Deliveries.Oldest))
	}
	if !st.Outbox.Durable {
		owed += ", OUTBOX NOT DURABLE"
	}
	lines := []string{title, hosts + "  " + owed}
	var blind []string
	for _, src := range st.Sources {
		if src.Sight != "clear" && src.Sight != "absent" {
			blind = append(blind, word(src.Name)+" "+word(src.Sight)+": "+word(src.Text))
		}
	}
	if len(blind) > 0 {
		lines = append(lines, "SOURCES "+strings.Join(blind, "; "))
	}
	if st.Mutes > 0 {
		lines = append(lines, fmt.Sprintf("mutes %d: consumers are not told everything", st.Mutes))
	}
	return append(lines, v.latency()...)
}

// latency is a line on each of what people wait for: how long until it was sent, and where the time went.
func (v *topView) latency() []string {
	var whole, parts []string
	n := 0
	for _, st := range v.Latency {
		if st.N == 0 { // a stage that these notifications do not have
			continue
		}
		text := fmt.Sprintf("%s→%s %.1f/%.1f", st.From, strings.TrimPrefix(st.To, "T"), st.P50, st.P99)
		if st.To == "T08" && (st.From == "T00" || st.From == "T01") || st.From == "T00" && st.To == "T09" {
			whole = append(whole, text)
			n = max(n, st.N)
		} else {
			parts = append(parts, text)
		}
	}
	if n == 0 {
		return []string{"latency: no notification yet"}
	}
	return []string{
		fmt.Sprintf("latency p50/p99 ms of %d: %s", n, strings.Join(whole, "  ")),
		"  " + strings.Join(parts, "  "),
	}
}

// topTable is a table that may be too high.
type topTable struct {
	head []string
	rows [][]string
	none string
	more int // rows that are not even here
}

func (t topTable) height() int { return 1 + max(1, len(t.rows)) + min(1, t.more) }

// draw makes at most height lines of it, two at least; 0: all. What does not fit is counted in the last line.
func (t topTable) draw(w, height int, paint func(string) string) []string {
	if len(t.rows) == 0 {
		return []string{t.none}
	}
	rows, left := t.rows, t.more
	if keep := height - 1; height > 0 && (len(rows) > keep || left > 0 && len(rows) >= keep) {
		keep = max(0, keep-1)
		left += len(rows) - min(keep, len(rows))
		rows = rows[:min(keep, len(rows))]
	}
	lines := tableLines(t.head, rows, w, paint)
	if left > 0 {
		text := fmt.Sprintf("… %d more", left)
		if t.more > 0 {
			text = fmt.Sprintf("… %d more, at least", left)
		}
		lines = append(lines, text)
	}
	return lines
}

// badStates of hosts, the gravest first; those that are not here are well.
var badStates = []string{"lost", "hung", "isolated", "silent", "away", "shutdown", "stopped", "starting"}

// rank is how bad it is for a host: smaller is worse.
func rank(h api.Host) int {
	if at := slices.Index(badStates, h.State); at >= 0 {
		return at
	}
	return len(badStates)
}

func (v *topView) hostTable() topTable {
	hosts := slices.Clone(v.Hosts)
	slices.SortStableFunc(hosts, func(a, b api.Host) int {
		switch v.sort {
		case "name":
			return strings.Compare(a.Name, b.Name)
		case "domains":
			return cmp.Or(b.Domains-a.Domains, strings.Compare(a.Name, b.Name))
		}
		bySeverity := 0
		for _, severity := range severityOrder {
			bySeverity = cmp.Or(bySeverity, b.Alarms[severity]-a.Alarms[severity])
		}
		return cmp.Or(rank(a)-rank(b), bySeverity, strings.Compare(a.Name, b.Name))
	})
	t := topTable{head: []string{"HOST", "STATE", "CRIT", "MAJ", "MIN", "WARN", "DOMAINS", "AGE", "ZONE"}, none: "no hosts"}
	p := printer{now: func() time.Time { return v.now }}
	for _, h := range hosts {
		row := []string{word(h.Name), hostState(h)}
		for _, severity := range severityOrder[:4] {
			row = append(row, known(h, alarmCount(h), count(h.Alarms[severity])))
		}
		t.rows = append(t.rows, append(row, known(h, h.Domains, strconv.Itoa(h.Domains)), p.since(h.AsOf), word(h.Zone)))
	}
	return t
}

func count(n int) string {
	if n == 0 {
		return "·"
	}
	return strconv.Itoa(n)
}

var severityOrder = []string{"critical", "major", "minor", "warning", "indeterminate"}

func (v *topView) alarmTable() topTable {
	alarms := slices.DeleteFunc(slices.Clone(v.Alarms), func(a api.Alarm) bool { return a.Under != "" })
	slices.SortStableFunc(alarms, func(a, b api.Alarm) int {
		return slices.Index(severityOrder, a.Severity) - slices.Index(severityOrder, b.Severity)
	})
	t := topTable{head: []string{"ALARM", "SEVERITY", "AGE", "HOST", "RESOURCE", "CONDITION", "HIT", "TEXT"}, none: "no alarms: all is well"}
	if v.Status.Starting {
		t.none = "no alarms yet: the host is starting"
	}
	if v.More {
		t.more, t.none = 1, "many alarms: the newest are explained by others, paramedic alarms has all"
	}
	p := printer{now: func() time.Time { return v.now }}
	id := shortIDs(alarms, func(a api.Alarm) string { return a.ID })
	for _, a := range alarms {
		note := ""
		switch {
		case a.Muted != nil:
			note = "(muted) "
		case a.Ack != nil:
			note = "(known) "
		}
		t.rows = append(t.rows, []string{
			word(id(a.ID)), word(a.Severity), p.since(a.Times.Raised), word(a.Host), word(a.Resource), word(a.Condition),
			strconv.Itoa(len(a.Affected)), note + word(a.Text),
		})
	}
	return t
}

// ago is a span of time in one unit.
func ago(d time.Duration) string {
	now := time.Time{}.Add(max(0, d))
	p := printer{now: func() time.Time { return now }}
	return p.since(&time.Time{})
}

// watchTop shows pictures until somebody has enough of them.
func (s *session) watchTop(v topView, screen *screen) (err error) {
	if err := screen.begin(); err != nil {
		return err
	}
	defer screen.end() // on a panic, too, before it is told
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	keys := screen.keys(ctx)
	type seen struct {
		picture
		err error
	}
	answers := make(chan seen, 1)
	var looking bool
	turn := 1
	look := func() {
		if looking || v.paused {
			return
		}
		looking = true
		latency, p := turn%profileEvery == 0 || v.err != nil, v.picture
		turn++
		go func() {
			defer screen.endOnPanic()
			err := s.look(ctx, &p, latency)
			answers <- seen{p, err}
		}()
	}
	interval := time.NewTicker(v.every)
	defer interval.Stop()
	second := time.NewTicker(time.Second) // ages go on
	defer second.Stop()
	for {
		v.now = s.now()
		if err := screen.draw(v.frame); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-screen.resized:
		case <-second.C:
		case <-interval.C:
			look()
		case a := <-answers:
			looking = false
			if errors.Is(a.err, context.Canceled) {
				continue
			}
			if v.err = a.err; a.err == nil {
				v.picture = a.picture
			}
		case key, open := <-keys:
			switch {
			case !open:
				keys = nil
			case key == 'q' || key == 'Q':
				return nil
			case key == 'p' || key == 'P' || key == ' ':
				if v.paused = !v.paused; !v.paused {
					look()
				}
			case key == 's' || key == 'S':
				v.sort = map[string]string{"health": "name", "name": "domains", "domains": "health"}[v.sort]
			case key == 'r' || key == 'R':
				look()
			}
		}
	}
}
