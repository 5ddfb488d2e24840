package agent

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The manual's table has each source, in the order of the code's, with files that the code of that source names.
func TestTheManualTellsWhatEachSourceReads(t *testing.T) {
	page, err := os.ReadFile("../docs/hardware.md")
	if err != nil {
		t.Fatal(err)
	}
	common := readCode(t, "../hw/*.go")
	file := regexp.MustCompile("`(/(?:sys|proc|dev|run|var)[^`]*)`")
	var rows []string
	for line := range strings.Lines(string(page)) {
		cells := strings.Split(line, " | ")
		if len(cells) != 5 || !strings.HasPrefix(line, "| `") {
			continue
		}
		name, _, _ := strings.Cut(strings.TrimPrefix(cells[0], "| `"), "`")
		rows = append(rows, name)
		code := common + readCode(t, filepath.Join("../hw", name, "*.go"))
		for _, m := range file.FindAllStringSubmatch(cells[1]+cells[2]+cells[4], -1) {
			for _, part := range strings.Split(m[1], "/")[2:] {
				part = strings.TrimSuffix(strings.TrimRight(part, "0"), "-ro") // ipmi0; the sockets of libvirt that only read
				if !strings.Contains(strings.ToLower(code), strings.ToLower(part)) {
					t.Errorf("%s: the manual says that it reads %s, of which its code does not name %q", name, m[1], part)
				}
			}
		}
		for i, cell := range cells {
			if strings.TrimSpace(strings.Trim(cell, "|\n")) == "" {
				t.Errorf("%s: column %d is empty", name, i+1)
			}
		}
	}
	var want []string
	for _, s := range sourceTable(nil) {
		want = append(want, s.name)
	}
	if !slices.Equal(rows, want) {
		t.Errorf("the manual has rows for %v, the sources are %v", rows, want)
	}
}

// readCode is what the files of a pattern hold that are no tests.
func readCode(t *testing.T, pattern string) string {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("no code at %s: %v", pattern, err)
	}
	var all strings.Builder
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(text)
	}
	return all.String()
}
