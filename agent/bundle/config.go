package bundle

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/paramedic-ha/paramedic/agent/config"
)

const (
	maxConfig     = 1 << 20
	maxSecretFile = 256 << 10
)

// configuration is a file of which only what the schema knows is told.
type configuration struct {
	file        string
	credentials string // systemd's directory of credentials, or empty
	redactor    *Redactor

	values []string // of secrets that it names
	unread []string // files of secrets that could not be read, with why
	users  []string // whose passwords these may be
	dir    string   // notify.dir, if it is written
}

// read makes known what the file's secrets are, and returns what may be told of the file: mappings and lists as they are, without
// comments; and of each value what its key allows.
func (c *configuration) read() func() (string, error) {
	data, err := readBounded(c.file, maxConfig)
	if err != nil {
		return func() (string, error) { return "", err }
	}
	var root yaml.Node
	if err := yaml.Load(data, &root); err != nil {
		return func() (string, error) {
			return "", fmt.Errorf("it is no YAML (paramedic check-config says where); nothing of it can be told without telling too much")
		}
	}
	if len(root.Content) == 0 {
		return func() (string, error) { return "# an empty file: all defaults\n", nil }
	}
	typ := reflect.TypeFor[config.Config]()
	c.secrets(root.Content[0], typ)
	var known struct{ Notify struct{ Dir string } }
	if err := root.Content[0].Decode(&known); err == nil {
		c.dir = known.Notify.Dir
	}
	for _, user := range c.users {
		for _, v := range slices.Clone(c.values) {
			c.values = append(c.values, user+":"+v)
		}
	}
	return func() (string, error) {
		var b strings.Builder
		c.problems(&b)
		told := c.node(root.Content[0], typ, "")
		text, err := yaml.Dump(told)
		if err != nil {
			return "", fmt.Errorf("write what may be told of it: %w", err)
		}
		b.Write(text)
		return b.String(), nil
	}
}

var quoted = regexp.MustCompile(`"(?:[^"\\]|\\.)*"`)

// problems are what check-config says, without excerpts, remedies and quotations: they repeat values.
func (c *configuration) problems(b *strings.Builder) {
	_, err := config.Load(c.file)
	var problems config.Errors
	switch {
	case err == nil:
		b.WriteString("# it is good, read as this user\n")
	case errors.As(err, &problems):
		fmt.Fprintf(b, "# it has problems, read as this user: %d\n", len(problems))
		for _, p := range problems {
			fmt.Fprintf(b, "# line %d, column %d: %s\n", p.Line, p.Column, c.redactor.Text(quoted.ReplaceAllString(strings.ReplaceAll(p.Message, "\n", " "), "(a value)")))
		}
	default:
		b.WriteString("# it can't be read as a whole\n")
	}
}

// field is the one with a key.
func field(typ reflect.Type, key string) (reflect.StructField, bool) {
	for i := range typ.NumField() {
		if f := typ.Field(i); f.Tag.Get("yaml") == key && key != "-" {
			return f, true
		}
	}
	return reflect.StructField{}, false
}

// secrets reads the files that the keys *_file name, and notes the users.
func (c *configuration) secrets(n *yaml.Node, typ reflect.Type) {
	switch {
	case n.Kind == yaml.SequenceNode && typ.Kind() == reflect.Slice:
		for _, e := range n.Content {
			c.secrets(e, typ.Elem())
		}
	case n.Kind == yaml.MappingNode && typ.Kind() == reflect.Struct:
		for i := 0; i+1 < len(n.Content); i += 2 {
			key, value := n.Content[i].Value, n.Content[i+1]
			f, ok := field(typ, key)
			switch {
			case !ok:
				c.unknown(value)
			case value.Kind == yaml.ScalarNode && f.Tag.Get("check") == "user":
				c.users = append(c.users, value.Value)
			case value.Kind == yaml.ScalarNode && holdsSecret(key):
				c.secret(value.Value)
			default:
				c.secrets(value, f.Type)
			}
		}
	}
}

// unknown takes what stands under a key that there is not for a secret: people write passwords there.
func (c *configuration) unknown(n *yaml.Node) {
	if n.Kind == yaml.ScalarNode && looksLikeValue(n.Value) {
		c.values = append(c.values, n.Value)
	}
	for _, e := range n.Content {
		c.unknown(e)
	}
}

// looksLikeValue leaves out words that stand in many places.
func looksLikeValue(s string) bool { return len(s) >= 8 && strings.ContainsAny(s, "0123456789") }

// holdsSecret reports whether a key names a file that nobody else may read. Certificates are shown to everybody.
func holdsSecret(key string) bool {
	return strings.HasSuffix(key, "_file") && !slices.Contains([]string{"cert_file", "ca_file", "client_ca_file"}, key)
}

func (c *configuration) secret(name string) {
	path, _ := c.find(name)
	data, err := readBounded(path, maxSecretFile)
	if err != nil {
		if info, e := os.Stat(path); e != nil || !info.Mode().IsRegular() {
			c.values = append(c.values, name) // then it may be the secret itself
		}
		c.unread = append(c.unread, cause(err))
		return
	}
	for line := range bytes.Lines(data) {
		if line = bytes.TrimSpace(line); !bytes.HasPrefix(line, []byte("-----")) && !bytes.HasPrefix(line, []byte("#")) {
			c.values = append(c.values, string(line))
		}
	}
}

// find is where the agent finds a file, and whether it is there.
func (c *configuration) find(name string) (string, os.FileInfo) {
	path := config.SecretPath(name, c.credentials, filepath.Dir(c.file))
	info, err := os.Stat(path)
	if err != nil {
		return path, nil
	}
	return path, info
}

// node is what may be told of one.
func (c *configuration) node(n *yaml.Node, typ reflect.Type, check string) *yaml.Node {
	switch {
	case n.Kind == yaml.SequenceNode && typ.Kind() == reflect.Slice:
		list := &yaml.Node{Kind: yaml.SequenceNode}
		for _, e := range n.Content {
			list.Content = append(list.Content, c.node(e, typ.Elem(), check))
		}
		return list
	case n.Kind == yaml.MappingNode && typ.Kind() == reflect.Map:
		m := &yaml.Node{Kind: yaml.MappingNode}
		for i := 0; i+1 < len(n.Content); i += 2 {
			key, value := n.Content[i].Value, c.node(n.Content[i+1], typ.Elem(), check)
			if namesSecret(key) {
				value = text(removed)
			}
			m.Content = append(m.Content, text(c.redactor.Text(key)), value)
		}
		return m
	case n.Kind == yaml.MappingNode && typ.Kind() == reflect.Struct:
		return c.mapping(n, typ)
	case n.Kind == yaml.ScalarNode:
		for typ.Kind() == reflect.Pointer {
			typ = typ.Elem()
		}
		told := text(c.scalar(n.Value, typ, check))
		if typ.Kind() != reflect.String && told.Value == n.Value {
			told.Tag = "" // it is no text
		}
		return told
	}
	return text(removed + ": not what belongs here")
}

func (c *configuration) mapping(n *yaml.Node, typ reflect.Type) *yaml.Node {
	m := &yaml.Node{Kind: yaml.MappingNode}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		f, ok := field(typ, key.Value)
		switch {
		case !ok:
			m.Content = append(m.Content, text(fmt.Sprintf("(an unknown key in line %d)", key.Line)), text(removed))
		case strings.HasSuffix(key.Value, "_file") && value.Kind == yaml.ScalarNode:
			m.Content = append(m.Content, text(key.Value), text(c.path(value.Value)))
		default:
			m.Content = append(m.Content, text(key.Value), c.node(value, f.Type, f.Tag.Get("check")))
		}
	}
	return m
}

func text(s string) *yaml.Node { return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: s} }

// path tells of a file that it is there and who may use it. A name of no file is not told: it may be the secret itself.
func (c *configuration) path(name string) string {
	if name == "" {
		return ""
	}
	path, info := c.find(name)
	if info == nil {
		return removed + ": no such file, or this user can't look"
	}
	return c.redactor.Text(fmt.Sprintf("%s (%s)", path, who(info)))
}

func (c *configuration) scalar(value string, typ reflect.Type, check string) string {
	switch {
	case typ.Kind() == reflect.Bool && (value == "true" || value == "false"), value == "":
		return value
	case typ == reflect.TypeFor[time.Duration]() && plain(value, "0123456789.hmsuµn"), typ.Kind() == reflect.Uint64 && plain(value, "0123456789"):
		return value
	case typ.Kind() == reflect.Struct && plain(value, "0123456789abcdefABCDEF.:/"): // a network
		return value
	case typ.Kind() != reflect.String:
		return removed + ": not what belongs here"
	case check == "user":
		return removed
	case check == "url", check == "proxy-url":
		return c.redactor.Text(URL(value))
	}
	return c.redactor.Text(value)
}

// plain reports whether a text is short and made of these characters.
func plain(s, of string) bool {
	return len(s) <= 64 && strings.Trim(s, of) == ""
}

func readBounded(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("read %s: it is no file", path)
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("read %s: it is larger than %d bytes", path, limit)
	}
	return data, nil
}

// cause is err without the path, which may be the secret itself.
func cause(err error) string {
	var pe *os.PathError
	if errors.As(err, &pe) {
		return cmp.Or(pe.Err.Error(), "unknown")
	}
	return "it is no readable file"
}
