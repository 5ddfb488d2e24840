package config

import (
	"fmt"
	"regexp"
	"strings"
	"unicode"
)

// Problem is one thing that is wrong with the configuration, and what to do about it.
type Problem struct {
	File    string `json:"file"`
	Line    int    `json:"line"`    // from 1; 0 when it is about the file as a whole
	Column  int    `json:"column"`  // from 1, in characters
	Excerpt string `json:"excerpt"` // the line, a newline, and a caret below the place
	Message string `json:"message"`
	Remedy  string `json:"remedy"`
}

// head is the problem's first line, as a compiler would say it.
func (p Problem) head() string {
	if p.Line == 0 {
		return p.File + ": " + p.Message
	}
	return fmt.Sprintf("%s:%d:%d: %s", p.File, p.Line, p.Column, p.Message)
}

// String is the whole of it: place, excerpt with a caret, remedy. Several lines, the last one ended.
func (p Problem) String() string {
	var b strings.Builder
	b.WriteString(p.head() + "\n")
	if line, caret, ok := strings.Cut(p.Excerpt, "\n"); ok {
		fmt.Fprintf(&b, "%5d | %s\n      | %s\n", p.Line, line, caret)
	}
	if p.Remedy != "" {
		fmt.Fprintf(&b, "      = %s\n", p.Remedy)
	}
	return b.String()
}

// Errors is every problem of one file, in its order.
type Errors []Problem

// Error is all of them as String gives them.
func (e Errors) Error() string {
	var b strings.Builder
	for _, p := range e {
		b.WriteString(p.String())
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// maxExcerpt keeps an excerpt on one line of a terminal.
const maxExcerpt = 100

// A secret that was written into the file by mistake must not be repeated in an error, a terminal or a log.
var (
	secretValue = regexp.MustCompile(`whsec_[A-Za-z0-9+/=_-]+`)
	secretKey   = regexp.MustCompile(`(?i)((?:secret|password|passwd|token|key)["']?\s*:\s+)[^\s].*`)
	secretFile  = regexp.MustCompile(`(?i)((?:secret|password|token|key)_file["']?\s*:\s+)[^\s].*`)
	secretURL   = regexp.MustCompile(`://[^/\s@"']*@`)
)

func redact(s string) string {
	return secretURL.ReplaceAllString(secretValue.ReplaceAllString(s, "whsec_…"), "://…@")
}

// excerpt is the line without secrets and control characters, cut to fit, with a caret under the column.
func excerpt(line string, column int) string {
	runes := []rune(strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, secretKey.ReplaceAllString(redact(strings.TrimRight(line, "\r\n")), "${1}…")))
	at := max(0, min(column-1, len(runes)))
	if len(runes) > maxExcerpt {
		from := max(0, min(at-maxExcerpt/2, len(runes)-maxExcerpt))
		runes, at = runes[from:from+maxExcerpt], at-from
	}
	return string(runes) + "\n" + strings.Repeat(" ", at) + "^"
}
