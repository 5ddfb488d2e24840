package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/mattn/go-runewidth"
	"go.yaml.in/yaml/v4"
	"golang.org/x/sys/unix"
)

// printer writes answers for people (tables) or for programs (json, yaml).
type printer struct {
	w      io.Writer
	format string
	color  bool
	wide   int // columns; 0: no limit
	now    func() time.Time
	err    error // the first failed write
}

func newPrinter(p Process, format string, noColor bool) *printer {
	out := &printer{w: p.Stdout, format: format, wide: p.wide, now: p.now}
	if f, ok := p.Stdout.(*os.File); ok {
		if size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ); err == nil { // a terminal
			out.color = !noColor && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
			out.wide = int(size.Col)
		}
	}
	return out
}

// show prints answer as a program wants it, or calls table.
func (p *printer) show(answer any, table func()) error {
	if p.format == "table" {
		table()
		return p.failed()
	}
	data, err := json.MarshalIndent(answer, "", "  ")
	if err != nil {
		return fmt.Errorf("write the answer: %w", err)
	}
	if p.format == "yaml" {
		if data, err = toYAML(data); err != nil {
			return fmt.Errorf("write the answer: %w", err)
		}
	}
	p.line(plain(strings.TrimRight(string(data), "\n"), p.format))
	return p.failed()
}

// plain writes what is not printable in a JSON or YAML document as escapes, which say the same to a program: it may be a
// person who looks at it. In both it stands between double quotes only (see block).
func plain(document, format string) string {
	document = strings.ToValidUTF8(document, "\ufffd") // of an event that is passed on as it came
	if strings.IndexFunc(document, unprintable) < 0 {
		return document
	}
	var b strings.Builder
	for _, r := range document {
		switch {
		case !unprintable(r):
			b.WriteRune(r)
		case r <= 0xffff:
			fmt.Fprintf(&b, `\u%04x`, r)
		case format == "yaml":
			fmt.Fprintf(&b, `\U%08x`, r)
		default: // JSON writes UTF-16 (RFC 8259, 7)
			high, low := utf16.EncodeRune(r)
			fmt.Fprintf(&b, `\u%04x\u%04x`, high, low)
		}
	}
	return b.String()
}

// toYAML keeps the names and the order of the JSON.
func toYAML(data []byte) ([]byte, error) {
	var node yaml.Node
	// Escaped first: YAML takes some of what JSON leaves as it is (NEL, U+2028) for line breaks.
	if err := yaml.Load([]byte(plain(string(data), "yaml")), &node); err != nil {
		return nil, err
	}
	block(&node)
	return yaml.Dump(&node)
}

func block(n *yaml.Node) {
	n.Style &^= yaml.FlowStyle | yaml.DoubleQuotedStyle
	if n.Kind == yaml.ScalarNode && (strings.ContainsFunc(n.Value, unprintable) || strings.Contains(n.Value, "\n")) {
		n.Style = yaml.DoubleQuotedStyle // the only one with escapes; and a line break at the end is not lost in it
	}
	for _, c := range n.Content {
		block(c)
	}
}

// item prints one of a stream of answers: a line of JSON, or a YAML document.
func (p *printer) item(answer any) error {
	if p.format == "yaml" {
		p.line("---")
		return p.show(answer, nil)
	}
	data, err := json.Marshal(answer)
	if err != nil {
		return fmt.Errorf("write the answer: %w", err)
	}
	p.line(plain(string(data), p.format))
	return p.failed()
}

func (p *printer) line(s string) {
	if _, err := io.WriteString(p.w, s+"\n"); err != nil && p.err == nil {
		p.err = fmt.Errorf("write the answer: %w", err)
	}
}

// rows prints a table, or, without rows, none.
func (p *printer) rows(head []string, rows [][]string, none string) {
	if len(rows) == 0 {
		p.text(none)
		return
	}
	p.table(head, rows)
}

func (p *printer) failed() error { return p.err }

// table prints rows under a head. Where the line is too short, the widest columns are cut.
func (p *printer) table(head []string, rows [][]string) { p.noted(head, rows, nil) }

// noted is a table with a line of text below each row that has a note, of which nothing is cut.
func (p *printer) noted(head []string, rows [][]string, notes []string) {
	for i, line := range tableLines(head, rows, p.wide, p.paint) {
		p.line(line)
		if i > 0 && i <= len(notes) && notes[i-1] != "" {
			for _, part := range wrap(notes[i-1], p.wide-len(noteIndent)) {
				p.line(noteIndent + part)
			}
		}
	}
}

const noteIndent = "    "

// tableLines are the lines of a table, no longer than wide columns (0: as long as they are).
func tableLines(head []string, rows [][]string, wide int, paint func(string) string) []string {
	width := make([]int, len(head))
	for _, row := range append([][]string{head}, rows...) {
		for i, cell := range row {
			width[i] = max(width[i], columns(cell))
		}
	}
	if wide > 0 {
		fit(width, wide, slices.Contains(idHeads, head[0]))
	}
	lines := []string{rowLine(head, width, wide, func(cell string) string { return cell })}
	for _, row := range rows {
		lines = append(lines, rowLine(row, width, wide, paint))
	}
	return lines
}

// idHeads are over columns of shortened ids, in front.
var idHeads = []string{"ALARM", "DELIVERY", "ID"}

const (
	columnGap = 2
	minColumn = 6  // what a column keeps
	minFirst  = 8  // what the first one keeps: an id that people type
	minText   = 24 // what the last one keeps, if the others can give it
)

// fit takes from the widest columns until all fit into wide: the last one first, down to minText, then the others.
func fit(width []int, wide int, ids bool) {
	least := minFirst
	if ids { // what would be left of one may be another's
		least = width[0]
	}
	last := len(width) - 1
	over := columnGap*last - wide
	for _, w := range width {
		over += w
	}
	if cut := min(over, width[last]-minText); cut > 0 {
		width[last] -= cut
		over -= cut
	}
	for ; over > 0; over-- {
		widest := -1
		for i, w := range width {
			if (i > 0 && w > minColumn || w > least) && (widest < 0 || w > width[widest]) {
				widest = i
			}
		}
		if widest < 0 {
			return
		}
		width[widest]--
	}
}

func rowLine(cells []string, width []int, wide int, paint func(string) string) string {
	var b strings.Builder
	used := 0
	for i, cell := range cells {
		if wide > 0 && used+columnGap > wide { // a terminal that is narrower than what columns keep
			break
		}
		room := width[i]
		if wide > 0 {
			room = min(room, wide-used)
		}
		cell = shorten(cell, room)
		pad := width[i] - columns(cell) + columnGap
		used += width[i] + columnGap
		b.WriteString(paint(cell))
		if i < len(cells)-1 && (wide == 0 || used < wide) {
			b.WriteString(strings.Repeat(" ", pad))
		}
	}
	return strings.TrimRight(b.String(), " ")
}

// colors of the words that say how bad it is (SGR codes, ECMA-48).
var colors = map[string]string{
	"critical": "1;31", "failed": "1;31", "blind": "1;31", "parked": "1;31", "lost": "1;31", "hung": "1;31", "isolated": "1;31", "silent": "1;31",
	"major": "31", "minor": "33", "warning": "33", "degraded": "33", "at-risk": "33", "away": "33",
	"cleared": "32", "ok": "32", "clear": "32",
}

// paint colours one word in a line.
func (p *printer) paint(word string) string {
	if code := colors[word]; p.color && code != "" {
		return "\x1b[" + code + "m" + word + "\x1b[0m"
	}
	return word
}

// pairs prints names and values below each other, without those that have none.
func (p *printer) pairs(pairs [][2]string) {
	column := 0
	for _, pair := range pairs {
		column = max(column, columns(pair[0])+columnGap)
	}
	for _, pair := range pairs {
		name := pair[0]
		for _, part := range wrap(pair[1], p.wide-column) {
			p.line(strings.TrimRight(name+strings.Repeat(" ", column-columns(name))+part, " "))
			name = ""
		}
	}
}

// wrap breaks s between words; a wide below one leaves it whole. A word that is longer than a line is broken where the line ends.
func wrap(s string, wide int) []string {
	if s == "" {
		return nil
	}
	if wide < 1 {
		return []string{s}
	}
	var lines []string
	line := ""
	for i, w := range strings.Split(s, " ") {
		switch {
		case i == 0:
			line = w
		case columns(line)+1+columns(w) > wide:
			lines = append(lines, line)
			line = w
		default:
			line += " " + w
		}
		for columns(line) > wide {
			part := wideRunes.Truncate(line, wide, "")
			if part == "" { // one letter is wider than a line
				break
			}
			lines = append(lines, part)
			line = line[len(part):]
		}
	}
	return append(lines, line)
}

// columns is how many a text takes on a terminal; colours take none.
func columns(s string) int {
	if strings.Contains(s, "\x1b[") {
		s = sgr.ReplaceAllString(s, "")
	}
	return wideRunes.StringWidth(s)
}

// wideRunes goes by Unicode alone: what the locale may say of ambiguous letters (East Asian Width A) no terminal of today does.
var (
	wideRunes = &runewidth.Condition{StrictEmojiNeutral: true}
	sgr       = regexp.MustCompile("\x1b\\[[0-9;]*m")
)

// shorten keeps of a text what fits into n columns.
func shorten(s string, n int) string {
	if columns(s) <= n {
		return s
	}
	return wideRunes.Truncate(s, n, "…")
}

// escape makes a text that others chose harmless for a terminal: what is not printable is written as Go would
// (\x1b, \u202e), so that nothing moves the cursor, colours or hides text.
func escape(s string) string {
	if strings.IndexFunc(s, unprintable) < 0 && utf8.ValidString(s) {
		return s
	}
	var b strings.Builder
	for i, r := range s {
		switch {
		case r == utf8.RuneError && !strings.HasPrefix(s[i:], "\uFFFD"):
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case unprintable(r):
			quoted := strconv.QuoteRuneToASCII(r)
			b.WriteString(quoted[1 : len(quoted)-1])
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

func unprintable(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }

// word is escape for a cell or a word in a line: no line breaks either, and a dash for nothing.
func word(s string) string {
	if s == "" {
		return "-"
	}
	return escapeLine(s)
}

func escapeLine(s string) string { return strings.ReplaceAll(escape(s), "\n", `\n`) }

// clock is a time of today by the clock, another one by its day; a dash for none.
func (p *printer) clock(t *time.Time) string {
	if t == nil {
		return "-"
	}
	now := p.now()
	local := t.In(now.Location())
	if y, m, d := local.Date(); y == now.Year() && m == now.Month() && d == now.Day() {
		return local.Format("15:04:05")
	}
	if local.Year() == now.Year() {
		return local.Format("01-02 15:04")
	}
	return local.Format("2006-01-02")
}

// exact is a time with its milliseconds and zone.
func (p *printer) exact(t *time.Time) string {
	if t == nil {
		return ""
	}
	return t.In(p.now().Location()).Format("2006-01-02 15:04:05.000 MST")
}

// short is the beginning of an id that people type; commands take any beginning that is unique.
func short(id string) string { return head(id, shortID) }

// shortID is how much of an id is shown, unless two in one table begin alike.
const shortID = 8

func head(id string, n int) string { return id[:min(len(id), n)] }

// apart is how many bytes of ids tell them apart, shortID at least.
func apart(ids []string) int {
	sorted := slices.Compact(slices.Sorted(slices.Values(ids)))
	n := shortID
	for i := 1; i < len(sorted); i++ {
		for n < len(sorted[i]) && head(sorted[i-1], n) == head(sorted[i], n) {
			n++
		}
	}
	return n
}

// shortIDs is short, but longer where two of a list would look the same.
func shortIDs[T any](list []T, id func(T) string) func(string) string {
	ids := make([]string, len(list))
	for i, t := range list {
		ids[i] = id(t)
	}
	n := apart(ids)
	return func(id string) string { return head(id, n) }
}
