package gossip

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
)

func manualText(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile("../docs/" + file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// The words that an operator may read in `status` stand in the manual, each with what to do, and none that is not.
func TestTheManualKnowsEveryTrouble(t *testing.T) {
	source, err := os.ReadFile("trouble.go")
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{"clock": true} // Status.Clocks
	for _, m := range regexp.MustCompile(`Trouble\w+\s+TroubleKind = "([a-z-]+)"`).FindAllStringSubmatch(string(source), -1) {
		known[m[1]] = true
	}
	for _, name := range reasonNames[1:] {
		known[name] = true
	}
	if len(known) < 14 {
		t.Fatalf("found %d words only: %v", len(known), known)
	}
	text := manualText(t, "cluster.md")
	_, section, _ := strings.Cut(text, "\n## Troubles\n")
	section, _, _ = strings.Cut(section, "\n## ")
	told := map[string]bool{}
	for line := range strings.Lines(section) {
		if cells := strings.Split(line, "|"); len(cells) == 5 && strings.TrimSpace(cells[3]) != "" {
			for _, m := range regexp.MustCompile("`([a-z-]+)`").FindAllStringSubmatch(cells[1], -1) {
				told[m[1]] = true
			}
		}
	}
	for word := range known {
		if !told[word] {
			t.Errorf("docs/cluster.md does not explain the trouble %q", word)
		}
	}
	for word := range told {
		if !known[word] {
			t.Errorf("docs/cluster.md explains the trouble %q, which nothing says", word)
		}
	}
	for _, name := range dropNames {
		if !strings.Contains(section, "`"+name+"`") {
			t.Errorf("docs/cluster.md does not explain messages dropped as %q", name)
		}
	}
}

// The figures of the manual's limits are those of the code.
func TestTheManualStatesTheLimits(t *testing.T) {
	l := Limits{}.withDefaults()
	for _, row := range []string{
		fmt.Sprintf("| hosts on the roster, and with records | %d |", min(maxRoster, l.Spaces)),
		fmt.Sprintf("| one record | %d KiB |", MaxRecord>>10),
		fmt.Sprintf("| records of one host | %d |", l.Records),
		fmt.Sprintf("| shared records | %d |", l.Shared),
		fmt.Sprintf("| payloads of one host, or shared | %d MiB |", l.Bytes>>20),
		fmt.Sprintf("| everything together | %d MiB |", l.Total>>20),
		fmt.Sprintf("at most %d MiB", 2*l.Total>>20),
		fmt.Sprintf("| one message | %d MiB |", maxMessage>>20),
		fmt.Sprintf("| messages waiting to be read | %d, %d MiB |", inboxLength, inboxBytes>>20),
		fmt.Sprintf("| messages waiting for one host | %d, %d MiB |", linkLength, linkBytes>>20),
		fmt.Sprintf("| datagrams of one address | %d a second |", sourceRate),
		fmt.Sprintf("| messages under one name | %d a second |", messageRate),
		fmt.Sprintf("| connections accepted; of one address | %d; %d |", maxStreams, maxPerSource),
		fmt.Sprintf("| bytes of one connection; of all | %d MiB; %d MiB |", maxStreamIn>>20, maxHeld>>20),
		fmt.Sprintf("more than %.0f s ahead", MaxAhead.Seconds()),
		fmt.Sprintf("more than %.0f s off", (MaxAhead / 2).Seconds()),
		fmt.Sprintf("up to %d bytes, no spaces or slashes", maxName),
	} {
		if !strings.Contains(strings.Join(strings.Fields(manualText(t, "cluster.md")), " "), row) {
			t.Errorf("docs/cluster.md does not say %q", row)
		}
	}
}
