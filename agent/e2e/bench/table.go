package main

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// table is what the bench prints: Markdown, some lines about the machine and one table.
type table struct {
	about    string
	sections []*section
}

// section is what was measured together.
type section struct {
	title         string
	at            time.Time
	before, after string // load averages of the last minute
	rows          []row
}

// row has its figures as text. A row of one figure alone has it in most.
type row struct {
	what           string
	n              int // 0: nothing was counted
	p50, p99, most string
	aim, verdict   string
}

// What a row says of its aim.
const (
	held   = "held"
	missed = "**missed**"
)

const tableHead = "| what | n | p50 | p99 | max, or the figure | aim | |\n|---|--:|--:|--:|--:|---|---|\n"

func (t *table) String() string {
	var b strings.Builder
	b.WriteString(t.about + "\n\n" + tableHead)
	for _, s := range t.sections {
		b.WriteString(s.head())
		for _, r := range s.rows {
			b.WriteString(r.String())
		}
	}
	return b.String()
}

func (s *section) head() string {
	return fmt.Sprintf("| **%s** (%s, load %s to %s) | | | | | | |\n", cell(s.title), s.at.UTC().Format("15:04"), s.before, s.after)
}

func (r row) String() string {
	n := ""
	if r.n > 0 {
		n = thousands(r.n)
	}
	var b strings.Builder
	for _, c := range []string{r.what, n, r.p50, r.p99, r.most, r.aim, r.verdict} {
		b.WriteString("| ")
		if c != "" {
			b.WriteString(cell(c) + " ")
		}
	}
	return b.String() + "|\n"
}

func cell(text string) string { return strings.ReplaceAll(text, "|", `\|`) }

// figure is a number with about three digits.
func figure(f float64) string {
	switch a := max(f, -f); {
	case a >= 10_000:
		return thousands(int(f))
	case a >= 99.95:
		return fmt.Sprintf("%.0f", f)
	case a >= 9.995:
		return fmt.Sprintf("%.1f", f)
	}
	return fmt.Sprintf("%.2f", f)
}

func thousands(n int) string {
	if n < 10_000 {
		return fmt.Sprint(n)
	}
	text := fmt.Sprint(n)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + " " + text[i:]
	}
	return text
}

// Between these lines of a page stands the table of the last run that was to be kept.
const (
	tableBegins = "<!-- the table of make bench: begin -->"
	tableEnds   = "<!-- the table of make bench: end -->"
)

var errNoMarkers = errors.New("want these lines, each once and in this order: " + tableBegins + " and " + tableEnds)

// replaceTable puts a table in the place of the one that the page has.
func replaceTable(page, table string) (string, error) {
	before, rest, ok := strings.Cut(page, tableBegins+"\n")
	_, after, also := strings.Cut(rest, tableEnds+"\n")
	if !ok || !also || strings.Count(page, tableBegins) > 1 || strings.Count(page, tableEnds) > 1 {
		return "", errNoMarkers
	}
	return before + tableBegins + "\n" + strings.TrimRight(table, "\n") + "\n" + tableEnds + "\n" + after, nil
}
