package bundle

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"net/url"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// removed stands where something was taken out.
const removed = "(removed)"

// shortest is how long a secret must be, in bytes, that is looked for by its value: shorter ones are in every text.
const shortest = 6

// Redactor takes out secrets: those whose values it knows, in whatever form they stand, and what looks like one. Add is to be
// called before the others, which are safe for concurrent use.
type Redactor struct {
	values   map[string]bool
	replacer *strings.Replacer
}

// NewRedactor knows no value yet.
func NewRedactor() *Redactor { return &Redactor{values: make(map[string]bool)} }

// Add makes values known: each is taken out as it is, in base64 (also as a part of what was encoded), in hexadecimal digits, and as
// URLs, JSON and Go write it. What is itself base64 is known decoded, too.
func (r *Redactor) Add(values ...string) {
	for _, v := range values {
		v = strings.TrimSpace(v)
		r.add(v)
		for _, prefix := range []string{"whsec_", "sealkey_"} {
			if key, ok := strings.CutPrefix(v, prefix); ok {
				v = key
				r.add(v)
			}
		}
		for _, e := range []*base64.Encoding{base64.StdEncoding, base64.RawStdEncoding, base64.URLEncoding, base64.RawURLEncoding} {
			if data, err := e.DecodeString(v); err == nil && len(data) >= 12 {
				r.add(string(data))
				break
			}
		}
	}
	pairs := make([]string, 0, 2*len(r.values))
	forms := make([]string, 0, len(r.values))
	for v := range r.values {
		forms = append(forms, v)
	}
	slices.SortFunc(forms, func(a, b string) int { // the longest first: the replacer takes the first that fits
		if len(a) != len(b) {
			return len(b) - len(a)
		}
		return strings.Compare(a, b)
	})
	for _, v := range forms {
		pairs = append(pairs, v, removed)
	}
	r.replacer = strings.NewReplacer(pairs...)
}

func (r *Redactor) add(v string) {
	if len(v) < shortest {
		return
	}
	quoted := strconv.Quote(v)
	written, _ := json.Marshal(v)
	forms := []string{
		v, hex.EncodeToString([]byte(v)), strings.ToUpper(hex.EncodeToString([]byte(v))), url.QueryEscape(v), url.PathEscape(v),
		quoted[1 : len(quoted)-1], strings.Trim(string(written), `"`),
	}
	for _, e := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		for before := range 3 {
			// The digits that only v decides, when that many bytes modulo 3 stand before it: the first is shared with what is before,
			// the last with what follows.
			text := e.EncodeToString([]byte(strings.Repeat("\x00", before) + v))
			from := []int{0, 2, 3}[before]
			to := len(text)
			if (before+len(v))%3 != 0 {
				to--
			}
			forms = append(forms, text[from:to])
		}
	}
	for _, f := range forms {
		if len(f) >= shortest {
			r.values[f] = true
		}
	}
}

const secretWord = `(?:password|passwd|passphrase|secret|token|api[_-]?key|private[_-]?key|signing[_-]?key|access[_-]?key|credentials?|authorization|cookie)`

var (
	pemBlock = regexp.MustCompile(`(?s)-----BEGIN [A-Z0-9 ]+-----.*?(?:-----END [A-Z0-9 ]+-----|\z)`)
	signing  = regexp.MustCompile(`(?:whsec|sealkey)_[A-Za-z0-9+/=_-]+`)
	scheme   = regexp.MustCompile(`\b(?:Bearer|bearer|BEARER)\s+[^\s"'\\,]+|\b(?:Basic|basic|BASIC)\s+[A-Za-z0-9+/=_-]*[A-Z0-9=+/][A-Za-z0-9+/=_-]*`)
	assigned = regexp.MustCompile(`(?i)(` + secretWord + `\\?["']?\s*[:=]\s*)(\\"(?:[^"\\]|\\[^"])*\\"|"(?:[^"\\]|\\.)*"|'[^']*'|[^\s,;&}\]"']+)`)
	flag     = regexp.MustCompile(`(?i)(--?[a-z0-9-]*` + secretWord + `\s+)([^\s-][^\s]*)`)
	address  = regexp.MustCompile(`\b[A-Za-z][A-Za-z0-9+.-]*://[^\s"'<>\\` + "`" + `]+`)
)

// Text is s without secrets.
func (r *Redactor) Text(s string) string {
	if r.replacer != nil {
		s = r.replacer.Replace(s)
	}
	if strings.Contains(s, "-----BEGIN ") {
		s = pemBlock.ReplaceAllString(s, removed)
	}
	var b strings.Builder
	b.Grow(len(s))
	for line := range strings.Lines(s) {
		b.WriteString(words(line))
	}
	return b.String()
}

// hints are in every line that an expression could fit: expressions are slow, and a log is long.
var hints = []string{"pass", "secret", "token", "key", "credential", "authorization", "cookie"}

// words is a line without what looks like a secret.
func words(s string) string {
	lower := strings.ToLower(s)
	if strings.Contains(lower, "sec_") || strings.Contains(lower, "key_") {
		s = signing.ReplaceAllString(s, removed)
	}
	if strings.Contains(lower, "bearer") || strings.Contains(lower, "basic") {
		s = scheme.ReplaceAllStringFunc(s, func(m string) string { return m[:strings.IndexAny(m, " \t\n")] + " " + removed })
	}
	if strings.Contains(s, "://") {
		s = address.ReplaceAllStringFunc(s, URL)
	}
	if slices.ContainsFunc(hints, func(hint string) bool { return strings.Contains(lower, hint) }) {
		s = flag.ReplaceAllString(s, "${1}"+removed)
		s = assigned.ReplaceAllStringFunc(s, unassign)
	}
	return unrandom(s)
}

// unassign takes the value out of name=value; what was JSON stays JSON.
func unassign(m string) string {
	parts := assigned.FindStringSubmatch(m)
	if strings.Contains(parts[2], removed) || parts[2] == "Bearer" || parts[2] == "Basic" || parts[2] == "null" || parts[2] == `""` {
		return m
	}
	for _, quote := range []string{`\"`, `"`, "'"} {
		if strings.HasPrefix(parts[2], quote) {
			return parts[1] + quote + removed + quote
		}
	}
	return parts[1] + removed
}

// longWord is from how many characters on a word may be a key.
const longWord = 32

// unrandom takes out long words that look like keys.
func unrandom(s string) string {
	var b strings.Builder
	done := 0
	for i := 0; i < len(s); {
		from := i
		for i < len(s) && inKeys(s[i]) {
			i++
		}
		if i-from >= longWord && looksRandom(s[from:i]) {
			b.WriteString(s[done:from] + removed)
			for i < len(s) && s[i] == '=' {
				i++
			}
			done = i
		}
		if i == from {
			i++
		}
	}
	if done == 0 {
		return s
	}
	return b.String() + s[done:]
}

func inKeys(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '+' || c == '/' || c == '_' || c == '-'
}

// looksRandom reports whether a long word has digits, and letters of both cases, or is 40 and more hexadecimal digits: ids of ours are
// shorter and lower case. A path is judged by its names.
func looksRandom(s string) bool {
	if strings.HasPrefix(s, "/") && !strings.Contains(s, "+") {
		return slices.ContainsFunc(strings.Split(s, "/"), func(name string) bool { return len(name) >= longWord && looksRandom(name) })
	}
	if len(s) >= 40 && strings.Trim(s, "0123456789abcdefABCDEF") == "" {
		return true
	}
	return strings.ContainsAny(s, "0123456789") && strings.ContainsAny(s, "abcdefghijklmnopqrstuvwxyz") && strings.ContainsAny(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZ")
}

// URL is one of which scheme, host and port are left: user, path, query and fragment can each be a secret. One without a host, such as
// unix:///path or qemu:///system, names something on this host and stays.
func URL(s string) string {
	scheme, rest, found := strings.Cut(s, "://")
	if !found {
		return s
	}
	text := strings.TrimRight(rest, ".,:;")
	tail := rest[len(text):]
	authority, path := text, ""
	if i := strings.IndexAny(text, "/?#"); i >= 0 {
		authority, path = text[:i], text[i:]
	}
	if i := strings.LastIndexByte(authority, '@'); i >= 0 {
		authority = removed + authority[i:]
	}
	switch {
	case path == "" || path == "/":
	case authority == "" && !strings.ContainsAny(path, "?#@"):
	case strings.HasPrefix(path, "/"):
		path = "/" + removed
	default:
		path = path[:1] + removed
	}
	return scheme + "://" + authority + path + tail
}

// Tree is v, a pointer to what was read from JSON, with all its texts without secrets.
func (r *Redactor) Tree(v any) { r.tree(reflect.ValueOf(v)) }

func (r *Redactor) tree(v reflect.Value) {
	switch v.Kind() {
	case reflect.String:
		if v.CanSet() {
			v.SetString(r.Text(v.String()))
		}
	case reflect.Pointer:
		if !v.IsNil() {
			r.tree(v.Elem())
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				r.tree(v.Field(i))
			}
		}
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			r.tree(v.Index(i))
		}
	case reflect.Map:
		r.mapping(v)
	default: // numbers, booleans
	}
}

func (r *Redactor) mapping(v reflect.Value) {
	if v.IsNil() {
		return
	}
	clean := reflect.MakeMapWithSize(v.Type(), v.Len())
	for _, key := range v.MapKeys() {
		k, e := reflect.New(key.Type()).Elem(), reflect.New(v.Type().Elem()).Elem()
		k.Set(key)
		e.Set(v.MapIndex(key))
		r.tree(k)
		r.tree(e)
		if name, isText := key.Interface().(string); isText && e.Kind() == reflect.String && namesSecret(name) {
			e.SetString(removed)
		}
		clean.SetMapIndex(k, e)
	}
	v.Set(clean)
}

var secretName = regexp.MustCompile(`(?i)` + secretWord + `$`)

// namesSecret reports whether what goes by this name is a secret.
func namesSecret(name string) bool { return secretName.MatchString(name) }
