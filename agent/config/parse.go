package config

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
)

// What a file may be at most. The struct bounds its depth, and aliases are refused, so the size bounds the work.
const (
	maxFile     = 1 << 20
	maxSecret   = 4 << 10
	maxProblems = 100
	maxDepth    = 32
)

// Default is the configuration that an empty file gives.
func Default() *Config {
	cfg := new(Config)
	applyDefaults(reflect.ValueOf(cfg).Elem())
	return cfg
}

// Load reads the file and the secrets that it names. The error is an Errors with every problem, or nil.
func Load(path string) (*Config, error) {
	data, problem := readFile(path, maxFile)
	if problem != nil {
		problem.File = path
		return nil, Errors{*problem}
	}
	p := &parser{file: path}
	cfg := p.parse(data)
	credentials := os.Getenv("CREDENTIALS_DIRECTORY")
	cfg.File = path
	p.hideNames(credentials)
	p.loadSecrets(cfg, credentials)
	p.loadCredentials(cfg, credentials)
	p.loadClusterKeys(cfg, credentials)
	p.loadAPI(cfg, credentials)
	if cfg.Node.Name == "" {
		name, err := os.Hostname()
		if err != nil || name == "" {
			p.add("node.name", "this host has no host name", "write node.name")
		}
		cfg.Node.Name = name
	}
	return p.result(cfg)
}

// Parse reads a configuration from memory; name stands for the file in problems. It looks at nothing but data: secret
// files are not read and an empty node name stays empty. The error is an Errors with every problem, or nil.
func Parse(name string, data []byte) (*Config, error) {
	p := &parser{file: name}
	return p.result(p.parse(data))
}

// readFile reads a regular file of at most limit bytes. It never waits: a fifo or a device is refused.
func readFile(path string, limit int64) ([]byte, *Problem) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		remedy := "make it readable for this user"
		if errors.Is(err, os.ErrNotExist) {
			remedy = "create it (an empty one is enough), or name another"
		}
		return nil, &Problem{Message: "can't read it: " + cause(err), Remedy: remedy}
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, &Problem{Message: "can't read it: " + cause(err)}
	}
	if !info.Mode().IsRegular() {
		return nil, &Problem{Message: "it is not a regular file", Remedy: "name a file"}
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, &Problem{Message: "can't read it: " + cause(err)}
	}
	if int64(len(data)) > limit {
		return nil, &Problem{Message: fmt.Sprintf("it is larger than %d bytes", limit), Remedy: "is it the right file?"}
	}
	return data, nil
}

// cause drops the path that the caller names anyway.
func cause(err error) string {
	var pe *os.PathError
	if errors.As(err, &pe) {
		err = pe.Err
	}
	return err.Error()
}

// parser walks the file's YAML nodes and the Config beside each other. (The library's own decoding into a struct
// tells neither columns nor all problems.)
type parser struct {
	file  string
	lines []string
	at    map[string]*yaml.Node // where each path of the file stands, for checks that come after
	probs Errors
	// unnamed are the keys whose files are not there: what stands there may be the secret itself.
	unnamed map[string]bool
}

func (p *parser) result(cfg *Config) (*Config, error) {
	if len(p.probs) == 0 {
		return cfg, nil
	}
	slices.SortStableFunc(p.probs, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	if n := len(p.probs) - maxProblems; n > 0 {
		p.probs = append(p.probs[:maxProblems], Problem{
			File:    p.file,
			Message: fmt.Sprintf("%d more problems are not shown", n),
		})
	}
	return nil, p.probs
}

// report adds a problem at a line and column.
func (p *parser) report(line, column int, message, remedy string) {
	if n := len(p.lines); line > n { // the YAML reader sets an end of line behind the last one
		line, column = n, utf8.RuneCountInString(p.lines[n-1])+1
	}
	problem := Problem{File: p.file, Line: line, Column: column, Message: redact(message), Remedy: redact(remedy)}
	if line >= 1 && line <= len(p.lines) {
		text := p.lines[line-1]
		if len(p.at) == 0 { // it is no YAML: which names are files of nobody knows
			text = secretFile.ReplaceAllString(text, "${1}…")
		}
		problem.Excerpt = excerpt(text, column)
	}
	p.probs = append(p.probs, problem)
}

// hide takes what stands under an unknown key out of all excerpts: people write passwords under names of their own. What else
// stands in a line stays where it is.
func (p *parser) hide(value *yaml.Node) {
	for _, n := range value.Content {
		p.hide(n)
	}
	if value.Kind != yaml.ScalarNode || value.Line < 1 || value.Line > len(p.lines) {
		return
	}
	line := []rune(p.lines[value.Line-1])
	from, to := min(max(0, value.Column-1), len(line)), len(line)
	if value.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) == 0 {
		to = min(from+utf8.RuneCountInString(value.Value), len(line))
	}
	for i := from; i < to; i++ {
		line[i] = '*'
	}
	p.lines[value.Line-1] = string(line)
	for i, problem := range p.probs {
		if problem.Line == value.Line {
			p.probs[i].Excerpt = excerpt(string(line), problem.Column)
		}
	}
}

// add adds a problem at a path, or at the nearest one above it that the file has.
func (p *parser) add(path, message, remedy string) {
	for {
		if n := p.at[path]; n != nil {
			p.report(n.Line, n.Column, message, remedy)
			return
		}
		i := strings.LastIndexAny(path, ".[")
		if i < 0 {
			p.report(0, 0, message, remedy)
			return
		}
		path = path[:i]
	}
}

func (p *parser) parse(data []byte) *Config {
	cfg := Default()
	p.at = make(map[string]*yaml.Node)
	p.lines = strings.Split(string(data), "\n")
	if i := badText(data); i >= 0 {
		line := bytes.Count(data[:i], []byte("\n"))
		column := utf8.RuneCount(data[bytes.LastIndexByte(data[:i], '\n')+1:i]) + 1
		p.report(line+1, column, fmt.Sprintf("byte 0x%02x does not belong into a text file", data[i]),
			"write the file in UTF-8, with lines that end as Unix or Windows end them")
		return cfg
	}
	loader, err := yaml.NewLoader(bytes.NewReader(data))
	if err != nil {
		p.report(0, 0, "can't read it as YAML: "+err.Error(), "")
		return cfg
	}
	var doc, second yaml.Node
	if err := loader.Load(&doc); err != nil {
		if !errors.Is(err, io.EOF) { // an empty file is a good one
			p.syntax(err)
		}
		return cfg
	}
	switch err := loader.Load(&second); {
	case err == nil:
		p.report(second.Line, second.Column, "a second document begins here", "put everything into one document: remove the line ---")
	case !errors.Is(err, io.EOF):
		p.syntax(err)
	}
	if len(doc.Content) == 1 {
		p.value(doc.Content[0], reflect.ValueOf(cfg).Elem(), "", "", 0)
		p.across(cfg)
	}
	return cfg
}

// badText finds the first character that the YAML reader would refuse without saying where, or would take for an end
// of line that editors don't show as one (YAML 1.1, 4.2); -1 when there is none.
func badText(data []byte) int {
	for i := 0; i < len(data); {
		r, n := utf8.DecodeRune(data[i:])
		switch {
		case r == utf8.RuneError && n == 1, r < ' ' && r != '\n' && r != '\r' && r != '\t', r == 0x7f,
			r == '\u0085', r == '\u2028', r == '\u2029',
			r == '\r' && (i+1 == len(data) || data[i+1] != '\n'):
			return i
		}
		i += n
	}
	return -1
}

func (p *parser) syntax(err error) {
	var le *yaml.LoadError
	if !errors.As(err, &le) {
		p.report(0, 0, "can't read it as YAML: "+err.Error(), "")
		return
	}
	message := le.Message
	if le.ContextMsg != "" {
		message = fmt.Sprintf("%s (%s that began at line %d)", message, le.ContextMsg, le.ContextMark.Line)
	}
	remedy := "look at the indentation, at quotes and brackets that are not closed, and at a colon within a value (quote it)"
	if n := le.Mark.Line; n >= 1 && n <= len(p.lines) && strings.HasPrefix(strings.TrimLeft(p.lines[n-1], " "), "\t") {
		remedy = "indent with spaces: YAML takes no tabs"
	}
	p.report(le.Mark.Line, le.Mark.Column, "this is not YAML: "+message, remedy)
}

// value puts node n into v. The tag is that of the struct field which v belongs to, with its checks.
func (p *parser) value(n *yaml.Node, v reflect.Value, path string, tag reflect.StructTag, depth int) {
	p.at[path] = n
	switch {
	case depth > maxDepth:
		p.report(n.Line, n.Column, "it is nested too deeply", "take out brackets or levels that say nothing")
	case n.Kind == yaml.AliasNode:
		p.report(n.Line, n.Column, "aliases are not supported", "write the value out here")
	case n.Tag == "!!null": // "hw:" and nothing below it: the defaults
	case v.Kind() == reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		p.value(n, v.Elem(), path, tag, depth+1)
	case v.Kind() == reflect.Struct && v.Type() != prefixType:
		p.object(n, v, path, depth)
	case v.Kind() == reflect.Map:
		p.dictionary(n, v, path, tag, depth)
	case v.Kind() == reflect.Slice:
		p.list(n, v, path, tag, depth)
	case n.Kind != yaml.ScalarNode:
		p.report(n.Line, n.Column, fmt.Sprintf("%s is %s here, and must be one value", quotePath(path), nodeName(n)),
			"write it as "+lastKey(path)+": value")
	default:
		if wrong := setScalar(v, n, tag); wrong != nil {
			p.report(n.Line, n.Column, fmt.Sprintf("%s: %s", lastKey(path), wrong.message), wrong.remedy)
		}
	}
}

// pairs calls f for each key of a mapping, once.
func (p *parser) pairs(n *yaml.Node, path string, f func(key, value *yaml.Node)) {
	if n.Kind != yaml.MappingNode {
		p.report(n.Line, n.Column, fmt.Sprintf("%s is %s here, and must be a mapping", quotePath(path), nodeName(n)),
			"write it as key: value lines, indented below it")
		return
	}
	seen := make(map[string]int)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		switch first, again := seen[key.Value]; {
		case key.Kind != yaml.ScalarNode:
			p.report(key.Line, key.Column, "a key must be a word, not "+nodeName(key), "")
		case key.Tag == "!!merge":
			p.report(key.Line, key.Column, "merge keys (<<) are not supported", "write the keys out here")
		case again:
			p.report(key.Line, key.Column, fmt.Sprintf("key %q is given twice, first in line %d", key.Value, first), "remove one of them")
		default:
			seen[key.Value] = key.Line
			f(key, n.Content[i+1])
		}
	}
}

func (p *parser) object(n *yaml.Node, v reflect.Value, path string, depth int) {
	t := v.Type()
	given := make(map[string]bool)
	p.pairs(n, path, func(key, value *yaml.Node) {
		name := key.Value
		for i := range t.NumField() {
			if t.Field(i).Tag.Get("yaml") == name && name != "-" {
				given[name] = value.Tag != "!!null"
				p.value(value, v.Field(i), join(path, name), t.Field(i).Tag, depth+1)
				return
			}
		}
		message, remedy := unknownKey(t, path, name)
		p.report(key.Line, key.Column, message, remedy)
		p.hide(value)
	})
	if n.Kind != yaml.MappingNode {
		return
	}
	for i := range t.NumField() {
		f := t.Field(i)
		name := f.Tag.Get("yaml")
		// Of a list, "required" is about its elements; setText looks at those.
		if f.Tag.Get("required") == "true" && f.Type.Kind() == reflect.String && v.Field(i).String() == "" && !given[name] {
			p.report(n.Line, n.Column, fmt.Sprintf("%s is missing", join(path, name)), "write "+name+": …")
		}
	}
}

func (p *parser) dictionary(n *yaml.Node, v reflect.Value, path string, tag reflect.StructTag, depth int) {
	m := reflect.MakeMap(v.Type())
	p.pairs(n, path, func(key, value *yaml.Node) {
		if wrong := check(tag.Get("keys"), key.Value); wrong != nil {
			p.report(key.Line, key.Column, "key "+wrong.message, wrong.remedy)
		}
		if value.Tag == "!!null" {
			p.report(value.Line, value.Column, fmt.Sprintf("%s is empty", quotePath(join(path, key.Value))), "write a value, or remove the line")
			return
		}
		e := reflect.New(v.Type().Elem()).Elem()
		p.value(value, e, join(path, key.Value), tag, depth+1)
		m.SetMapIndex(reflect.ValueOf(key.Value), e)
	})
	v.Set(m)
}

func (p *parser) list(n *yaml.Node, v reflect.Value, path string, tag reflect.StructTag, depth int) {
	if n.Kind != yaml.SequenceNode {
		remedy := "write it as a list: [a, b]"
		if n.Kind == yaml.ScalarNode {
			remedy = fmt.Sprintf("write it as a list: [%s]", strconv.Quote(n.Value))
		}
		p.report(n.Line, n.Column, fmt.Sprintf("%s is %s here, and must be a list", quotePath(path), nodeName(n)), remedy)
		return
	}
	list := reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content))
	for i, c := range n.Content {
		applyDefaults(list.Index(i))
		at := fmt.Sprintf("%s[%d]", path, i)
		if c.Tag == "!!null" {
			p.at[at] = c
			p.report(c.Line, c.Column, fmt.Sprintf("%s is empty", quotePath(at)), "write a value, or remove the line")
			continue
		}
		p.value(c, list.Index(i), at, tag, depth+1)
	}
	v.Set(list)
}

var (
	prefixType   = reflect.TypeFor[netip.Prefix]()
	durationType = reflect.TypeFor[time.Duration]()
)

// setScalar puts the text of n into v and checks it; a plain number is a text too where a text is wanted.
func setScalar(v reflect.Value, n *yaml.Node, tag reflect.StructTag) *wrong {
	if v.Kind() == reflect.String && n.Tag == "!!bool" {
		return &wrong{fmt.Sprintf("%q is a yes or no, and must be a text", n.Value), "quote it: " + strconv.Quote(n.Value)}
	}
	switch n.Tag {
	case "!!str", "!!int", "!!float", "!!bool", "!!timestamp":
	default:
		return &wrong{fmt.Sprintf("tag %s is not supported", strconv.Quote(n.Tag)), "write the plain value"}
	}
	return setText(v, n.Value, tag)
}

// setText is setScalar for a value that stands alone; also for the default tags.
func setText(v reflect.Value, s string, tag reflect.StructTag) *wrong {
	switch {
	case v.Type() == durationType:
		d, wrong := parseDuration(s, tag)
		v.SetInt(int64(d))
		return wrong
	case v.Type() == prefixType:
		prefix, err := netip.ParsePrefix(s)
		if err != nil {
			return &wrong{fmt.Sprintf("%q is not a network", s), "write an address and a length, for instance 10.0.0.0/8"}
		}
		v.Set(reflect.ValueOf(prefix))
		if m := prefix.Masked(); m != prefix {
			return &wrong{fmt.Sprintf("%q has bits behind its length", s), fmt.Sprintf("write %s", m)}
		}
	case v.Kind() == reflect.Uint64:
		n, err := strconv.ParseUint(s, 10, 64)
		low, _ := strconv.ParseUint(tag.Get("min"), 10, 64)
		high, _ := strconv.ParseUint(tag.Get("max"), 10, 64)
		if err != nil || n < low || n > high {
			return &wrong{fmt.Sprintf("%q is no number from %d to %d", s, low, high), "write digits only"}
		}
		v.SetUint(n)
	case v.Kind() == reflect.Bool:
		switch s {
		case "true", "false":
			v.SetBool(s == "true")
		default:
			return &wrong{fmt.Sprintf("%q is neither true nor false", s), "write true or false"}
		}
	case v.Kind() == reflect.String:
		v.SetString(s)
		if s == "" {
			if tag.Get("required") == "true" {
				return &wrong{"it must not be empty", "write a value, or remove the line"}
			}
			return nil
		}
		return check(tag.Get("check"), s)
	}
	return nil
}

func parseDuration(s string, tag reflect.StructTag) (time.Duration, *wrong) {
	d, err := time.ParseDuration(s)
	if err != nil {
		if _, err := strconv.ParseFloat(s, 64); err == nil {
			return 0, &wrong{fmt.Sprintf("%q has no unit", s), fmt.Sprintf("write %ss for seconds; units are ms, s, m, h", s)}
		}
		return 0, &wrong{fmt.Sprintf("%q is not a duration", s), "write a number with a unit, for instance 500ms, 10s, 5m, 24h"}
	}
	low, _ := time.ParseDuration(tag.Get("min"))
	if high, err := time.ParseDuration(tag.Get("max")); d < low || err == nil && d > high {
		return 0, &wrong{fmt.Sprintf("%s is out of range", s), fmt.Sprintf("write something from %s to %s", tag.Get("min"), tag.Get("max"))}
	}
	return d, nil
}

// applyDefaults sets what the default tags say, in v and the structs within it.
func applyDefaults(v reflect.Value) {
	if v.Kind() != reflect.Struct {
		return
	}
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if f.Tag.Get("yaml") == "-" || !f.IsExported() {
			continue
		}
		if d := f.Tag.Get("default"); d != "" {
			setText(v.Field(i), d, f.Tag) // a test holds every default to its own checks
		}
		applyDefaults(v.Field(i))
	}
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func quotePath(path string) string {
	if path == "" {
		return "the file"
	}
	return path
}

func lastKey(path string) string { return path[strings.LastIndexByte(path, '.')+1:] }

func nodeName(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	case yaml.AliasNode:
		return "an alias"
	case yaml.ScalarNode, yaml.DocumentNode, yaml.StreamNode: // the last two never lie within a document
	}
	return "a single value"
}
