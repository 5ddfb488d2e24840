package docs

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/paramedic-ha/paramedic/agent/config"
)

// block is a piece of a page that stands in a fence, or is indented by four.
type block struct {
	page, heading, kind, text string
	line                      int
}

// kind of a block that is indented; of a fence it is its language, and output without one.
const indented = "indented"

func (b block) String() string {
	return fmt.Sprintf("%s:%d (%s, %s)", b.page, b.line, b.heading, b.kind)
}

// pages are the manual: README.md and what lies beside this file.
func pages(t *testing.T) map[string]string {
	t.Helper()
	all := make(map[string]string)
	files, err := filepath.Glob("*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range append(files, "../README.md") {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		all[filepath.Base(file)] = string(text)
	}
	return all
}

// blocksOf lists the blocks of a page. Its heading is the last one of the second level, as the tests of the commands count sections.
func blocksOf(page, text string) []block {
	var all []block
	var heading string
	open := -1 // the block that the line before belongs to
	fenced, blank := false, true
	for i, line := range strings.Split(text, "\n") {
		if h, ok := strings.CutPrefix(line, "## "); ok && !fenced {
			heading = h
		}
		language, edge := strings.CutPrefix(line, "```")
		rest, deep := strings.CutPrefix(line, "    ")
		switch {
		case edge && fenced:
			fenced, open = false, -1
		case edge:
			if language == "" {
				language = "output"
			}
			fenced, open = true, len(all)
			all = append(all, block{page, heading, language, "", i + 1})
		case fenced:
			all[open].text += line + "\n"
		case deep && (open >= 0 || blank):
			if open < 0 {
				open = len(all)
				all = append(all, block{page, heading, indented, "", i + 1})
			}
			all[open].text += rest + "\n"
		case line != "":
			open = -1
		}
		blank = line == ""
	}
	return all
}

// allBlocks are the blocks of all pages.
func allBlocks(t *testing.T) []block {
	t.Helper()
	var all []block
	texts := pages(t)
	for _, page := range slices.Sorted(maps.Keys(texts)) {
		all = append(all, blocksOf(page, texts[page])...)
	}
	return all
}

// handling says what is made of the blocks of one kind in a section: the name of the test that runs or holds them, or why nothing
// can. An empty section is all of the page, but for what stands before it in the list.
type handling struct{ page, heading, kind, test, because string }

var handled = []handling{
	{page: "README.md", kind: indented, heading: "A first try on one host", test: "TestCommandLine"},
	{page: "README.md", kind: indented, heading: "Two commands", because: "make demo and make test are run by themselves, and take minutes"},
	{page: "README.md", kind: indented, heading: "", because: "the picture of the flow"},
	{page: "architecture.md", kind: indented, because: "pictures"},
	{page: "api.md", kind: "sh", test: "TestTheExamplesOfTheGuideRun"},
	{page: "api.md", kind: "json", test: "TestTheSampleAlarmOfTheGuideIsOne"},
	{page: "api.md", heading: "Following", kind: indented, because: "events of a stream, cut to what matters; TestWatchStreamsAlarms reads real ones"},
	{page: "cli.md", kind: indented, test: "TestEveryCommandOfTheManualIsOne"},
	{page: "cluster.md", heading: "Making one", kind: "output", because: "what hosts and status print with three real hosts; TestTablesFitEightyColumns holds the rows"},
	{page: "cluster.md", heading: "Changing the gossip key", kind: "output", test: "TestCommandLine"},
	{page: "consumers.md", kind: "http", test: "TestTheManualShowsWhatIsReallySent"},
	{page: "consumers.md", kind: "go", test: "TestTheReceiversOfTheManualAreWhatItShows"},
	{page: "consumers.md", kind: "python", test: "TestTheReceiversOfTheManualAreWhatItShows"},
	{page: "consumers.md", heading: "A receiver of one's own", kind: indented, test: "TestEveryCommandOfTheManualIsOne"},
	{page: "host-loss.md", heading: "For a consumer", kind: "json", because: "a notification cut to what matters"},
	{page: "host-loss.md", kind: indented, heading: "For a consumer", test: "TestEveryCommandOfTheManualIsOne"},
	{page: "host-loss.md", kind: indented, heading: "For an operator", test: "TestEveryCommandOfTheManualIsOne"},
	{page: "host-loss.md", kind: indented, heading: "What it needs", because: "a line for sysctl.d of the host"},
	{page: "host-loss.md", kind: "ini", because: "a drop-in of the unit, whose capability the packaged unit has"},
	{page: "host-loss.md", heading: "For an operator", kind: "output", because: "hosts that are lost for minutes; TestTablesFitEightyColumns holds the rows"},
	{page: "ipmi.md", kind: indented, because: "the udev rule that the packages install"},
	{page: "metrics.md", kind: "yaml", test: "TestAPrometheusScrapesWithTheManualsConfigurationAndAlerts"},
	{page: "metrics.md", kind: "sh", test: "TestAPrometheusScrapesWithTheManualsConfigurationAndAlerts"},
	{page: "logs.md", kind: "json", because: "a line of the log"},
	{page: "monitors.md", heading: "What may be sent", kind: "json", because: "the answer to the request above it, which TestCommandLine makes"},
	{page: "monitors.md", heading: "Alertmanager", kind: "yaml", because: "a configuration of Alertmanager's"},
	{page: "security.md", kind: "ini", because: "a drop-in of the unit"},
	{page: "security.md", heading: "The audit log", kind: "output", because: "a line of the log; TestEachChangeAndEachRefusalIsOneLineOfTheAuditLogWithoutSecrets holds its fields"},
	{page: "install.md", heading: "Make the packages", kind: indented, because: "the tests of the packages make them this way"},
	{page: "install.md", heading: "Debian, Ubuntu", kind: indented, test: "TestTheDebianPackageIsInstalledRunUpgradedRemovedAndPurged"},
	{page: "install.md", heading: "Fedora, RHEL and their like", kind: indented, because: "dnf and systemd; the tests of the packages install the RPM in a root of its own"},
	{page: "install.md", heading: "The first day", kind: indented, test: "TestEveryCommandOfTheManualIsOne"},
}

// scripted are the sections whose commands, configuration or output the scripts of agent/cli take from the manual: page, heading, kind.
func scripted(t *testing.T) map[[3]string]bool {
	t.Helper()
	found := make(map[[3]string]bool)
	scripts, err := filepath.Glob("../agent/cli/testdata/script/*.txtar")
	if err != nil || len(scripts) == 0 {
		t.Fatal(scripts, err)
	}
	manual := regexp.MustCompile(`(?m)^manual (\S+) (?:'([^']+)'|(\S+)) (\S+) `)
	shows := regexp.MustCompile(`(?m)^shows (\S+) (?:'([^']+)'|(\S+))`)
	for _, script := range scripts {
		text, err := os.ReadFile(script)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range manual.FindAllStringSubmatch(string(text), -1) {
			found[[3]string{m[1], m[2] + m[3], m[4]}] = true
		}
		for _, m := range shows.FindAllStringSubmatch(string(text), -1) {
			found[[3]string{m[1], m[2] + m[3], "output"}] = true
		}
	}
	return found
}

// ours reports whether a piece of YAML is of our configuration, not of Alertmanager's or Prometheus's.
func ours(b block) bool {
	if name, named := strings.CutPrefix(b.text, "# "); named && !strings.HasPrefix(name, "paramedic.yaml\n") {
		return false
	}
	return b.page != "monitors.md" || b.heading != "Alertmanager"
}

// Whatever a reader may paste, and whatever is shown as printed or sent, is run or held by a test, or it is said here why not.
func TestEveryBlockIsRunHeldOrExcused(t *testing.T) {
	byScript := scripted(t)
	texts := pages(t)
	tests := testsThereAre(t)
	used := make(map[handling]bool)
	for _, b := range allBlocks(t) {
		kind := b.kind
		if kind == indented {
			kind = "sh"
		}
		if byScript[[3]string{b.page, b.heading, kind}] {
			continue
		}
		if kind == "yaml" && ours(b) {
			continue // TestEveryConfigurationOfTheManualIsGood
		}
		at := slices.IndexFunc(handled, func(h handling) bool {
			return h.page == b.page && h.kind == b.kind && (h.heading == b.heading || h.heading == "")
		})
		if at < 0 {
			t.Errorf("%s: no test runs or holds this, and nothing says why:\n%s", b, b.text)
			continue
		}
		used[handled[at]] = true
	}
	for _, h := range handled {
		if _, there := texts[h.page]; !there {
			continue
		}
		switch {
		case !used[h]:
			t.Errorf("%+v is about no block", h)
		case (h.test == "") == (h.because == ""):
			t.Errorf("%+v: want a test, or a reason", h)
		case h.test != "" && !tests[h.test]:
			t.Errorf("%+v: there is no such test", h)
		}
	}
}

// Every piece of configuration that a page shows is taken as it stands.
func TestEveryConfigurationOfTheManualIsGood(t *testing.T) {
	good := 0
	for _, b := range allBlocks(t) {
		if b.kind != "yaml" || !ours(b) {
			continue
		}
		if _, err := config.Parse(b.page, []byte(b.text)); err != nil {
			t.Errorf("%s:\n%v", b, err)
		}
		good++
	}
	if good < 5 {
		t.Errorf("%d only", good)
	}
}

// What stands as JSON is JSON.
func TestEveryJSONOfTheManualIsOne(t *testing.T) {
	for _, b := range allBlocks(t) {
		if b.kind == "json" && !json.Valid([]byte(b.text)) {
			t.Errorf("%s is no JSON", b)
		}
	}
}
