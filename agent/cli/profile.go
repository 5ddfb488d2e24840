package cli

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/paramedic-ha/paramedic/agent/api"
)

type profileCommand struct{}

// stage is one delta of the time line, in milliseconds.
type stage struct {
	From string  `json:"from"`
	To   string  `json:"to"`
	What string  `json:"what"`
	N    int     `json:"n"`
	P50  float64 `json:"p50_ms"`
	P99  float64 `json:"p99_ms"`
	Max  float64 `json:"max_ms"`
}

type profileAnswer struct {
	Notifications int          `json:"notifications"`
	Stages        []stage      `json:"stages"`
	Recent        []api.Stages `json:"recent"`
}

func (profileCommand) Run(s *session) error {
	list := api.StageList{Stages: []api.Stages{}}
	if err := s.client.get(s.ctx, "/v1/profile", nil, &list); err != nil {
		return err
	}
	answer := profileAnswer{Notifications: len(list.Stages), Stages: profile(list), Recent: list.Stages}
	return s.out.show(answer, func() {
		s.out.text(fmt.Sprintf("%d recent notifications%s, times in ms", len(list.Stages), senders(list.Stages)))
		var rows [][]string
		for _, st := range answer.Stages {
			row := []string{st.From + "→" + st.To, strconv.Itoa(st.N), "-", "-", "-", st.What}
			if st.N > 0 {
				for i, ms := range []float64{st.P50, st.P99, st.Max} {
					row[2+i] = strconv.FormatFloat(ms, 'f', 3, 64)
				}
			}
			rows = append(rows, row)
		}
		s.out.table([]string{"STAGE", "N", "P50", "P99", "MAX", "WHAT"}, rows)
	})
}

// senders says how many each host has sent, where that was not one host alone.
func senders(list []api.Stages) string {
	sent := map[string]int{}
	for _, st := range list {
		sent[st.By]++
	}
	if len(sent) < 2 {
		return ""
	}
	var parts []string
	for _, by := range slices.Sorted(maps.Keys(sent)) {
		parts = append(parts, fmt.Sprintf("%s %d", word(by), sent[by]))
	}
	return " (sent by " + strings.Join(parts, ", ") + ")"
}

// point is one of OPNFV Doctor's names; what a host does by itself has those of what OpenStack is asked for there.
type point struct {
	name string
	what string // what happens on the way from the point before
	at   func(api.Stages) *time.Time
}

var points = []point{
	{"T00", "", func(s api.Stages) *time.Time { return s.T00 }},
	{"T01", "occurred until observed", func(s api.Stages) *time.Time { return s.T01 }},
	{"T02", "until the affected are found", func(s api.Stages) *time.Time { return s.T02 }},
	{"T03", "until the notifier has taken it up", func(s api.Stages) *time.Time { return s.T03 }},
	{"T04", "until the disk is given it", func(s api.Stages) *time.Time { return s.T04 }},
	{"T05", "until the disk has it", func(s api.Stages) *time.Time { return s.T05 }},
	{"T06", "until the outbox is passed", func(s api.Stages) *time.Time { return s.T06 }},
	{"T07", "until the attempt begins", func(s api.Stages) *time.Time { return s.T07 }},
	{"T08", "until it is sent", func(s api.Stages) *time.Time { return s.T08 }},
	{"T09", "until the consumer has answered", func(s api.Stages) *time.Time { return s.T09 }},
}

// profile gives each stage, then what they come to. A notification without one of a stage's two times is not counted in it, nor in those before T03
// one that stood before its consumer wanted it, nor one that another host has sent in those that begin on one host's clock and end on the other's.
func profile(list api.StageList) []stage {
	var out []stage
	for i := 1; i < len(points); i++ {
		out = append(out, measure(list, points[i-1], points[i], points[i].what))
	}
	for _, sum := range []struct {
		from, to int
		what     string
	}{
		{3, 6, "the outbox, with a commit in time or without"},
		{1, 8, "observed until sent: what paramedic adds"},
		{0, 8, "occurred until sent"},
		{0, 9, "occurred until answered"},
	} {
		out = append(out, measure(list, points[sum.from], points[sum.to], sum.what))
	}
	return out
}

func measure(list api.StageList, from, to point, what string) stage {
	var took []time.Duration
	for _, s := range list.Stages {
		twoClocks := list.Node != "" && s.By != list.Node && from.name < "T08" && to.name >= "T08"
		if a, b := from.at(s), to.at(s); a != nil && b != nil && !twoClocks && (!s.Late || from.name >= "T03") {
			took = append(took, b.Sub(*a))
		}
	}
	slices.Sort(took)
	st := stage{From: from.name, To: to.name, What: what, N: len(took)}
	if len(took) > 0 {
		st.P50, st.P99, st.Max = inMilliseconds(percentile(took, 50)), inMilliseconds(percentile(took, 99)), inMilliseconds(took[len(took)-1])
	}
	return st
}

// percentile is by the nearest rank, of sorted values.
func percentile(sorted []time.Duration, p int) time.Duration {
	rank := (len(sorted)*p + 99) / 100
	return sorted[max(rank, 1)-1]
}

func inMilliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func milliseconds(d time.Duration) string { return strconv.FormatFloat(inMilliseconds(d), 'f', 1, 64) }
