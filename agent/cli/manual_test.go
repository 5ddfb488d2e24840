package cli

import (
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

var (
	inCode  = regexp.MustCompile("`paramedic ([^`]+)`")
	inBlock = regexp.MustCompile(`(?m)(?:^|[|;(&!] *|until |timeout 1 |bin/)paramedic (.*)$`)
)

// words are those of a command as a shell takes them, up to where the command ends.
func shellWords(line string) []string {
	var all []string
	var word strings.Builder
	begun, quote := false, rune(0)
	end := func() {
		if begun {
			all = append(all, word.String())
			word.Reset()
			begun = false
		}
	}
	for _, r := range line {
		switch {
		case quote != 0 && r == quote:
			quote = 0
		case quote != 0:
			word.WriteRune(r)
		case r == '"' || r == '\'':
			quote, begun = r, true
		case r == ' ':
			end()
		case strings.ContainsRune("|;&<>)", r), r == '#' && !begun:
			end()
			return all
		default:
			begun = true
			word.WriteRune(r)
		}
	}
	end()
	return all
}

// fits says what of a command the grammar does not know.
func fits(app *kong.Node, args []string) string {
	node, flags := app, slices.Clone(app.Flags)
	for i := 0; i < len(args); i++ {
		word := args[i]
		name, _, valued := strings.Cut(strings.TrimLeft(word, "-"), "=")
		switch {
		case strings.HasPrefix(word, "-") && word != "-":
			at := slices.IndexFunc(flags, func(f *kong.Flag) bool {
				return f.Name == name || f.Short != 0 && string(f.Short) == name ||
					f.Tag.Negatable != "" && "no-"+f.Name == name
			})
			if at < 0 {
				return "it has no " + word
			}
			if !flags[at].IsBool() && !valued {
				i++
			}
		default:
			child := slices.IndexFunc(node.Children, func(n *kong.Node) bool { return n.Name == word })
			if child < 0 {
				if hasDefault := node.DefaultCmd != nil && len(node.DefaultCmd.Positional) > 0; len(node.Positional) == 0 && !hasDefault {
					return "there is no " + word
				}
				continue
			}
			node = node.Children[child]
			flags = append(flags, node.Flags...)
		}
		if node.DefaultCmd != nil {
			flags = append(flags, node.DefaultCmd.Flags...)
		}
	}
	return ""
}

// Every command that the manual shows or names, in any of its pages, is one that the program knows, flags included.
func TestEveryCommandOfTheManualIsOne(t *testing.T) {
	parser, err := kong.New(&commands{}, kong.Vars{"defaultConfig": "x"})
	if err != nil {
		t.Fatal(err)
	}
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	known := 0
	for _, page := range append(pages, "../../README.md", "../../packaging/paramedic.yaml") {
		b, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		text := strings.ReplaceAll(string(b), "\\\n", " ")
		var shown [][]string
		for line := range strings.Lines(text) {
			if line = strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(line), "# ")); strings.HasPrefix(line, "|") {
				continue // a table
			}
			shown = append(shown, inBlock.FindAllStringSubmatch(line, -1)...)
		}
		for _, m := range append(shown, inCode.FindAllStringSubmatch(text, -1)...) {
			args := shellWords(m[1])
			if len(args) == 0 || prose(m[0], args) {
				continue
			}
			known++
			if wrong := fits(parser.Model.Node, args); wrong != "" {
				t.Errorf("%s: paramedic %s: %s", page, strings.TrimSpace(m[1]), wrong)
			}
		}
	}
	if known < 150 {
		t.Errorf("%d commands only were found", known)
	}
	if got := fits(parser.Model.Node, []string{"alarms", "--colour"}); got == "" || reflect.ValueOf(got).IsZero() {
		t.Error("an unknown flag passes")
	}
	if got := fits(parser.Model.Node, []string{"alarm"}); got == "" {
		t.Error("an unknown command passes")
	}
}

// prose tells a sentence that begins with the program's name from a command.
func prose(match string, args []string) bool {
	return !strings.HasPrefix(match, "`") && slices.Contains([]string{"watches", "trusts", "is", "on", "runs", "sees", "go"}, args[0])
}
