package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// benchmarks are the packages whose Go benchmarks are in the table.
var benchmarks = []string{"./correlate", "./notify", "./agent/ledger"}

// stepAim is what a step of the engine may take, but for a fault of all domains at once.
const stepAim = 50 * time.Microsecond

// measurement is a line of go test -bench.
type measurement struct {
	pkg, name string
	n         int
	values    map[string]float64 // by unit
}

// parseBenchmarks reads what go test -bench prints (https://go.dev/design/14313-benchmark-format).
func parseBenchmarks(output string) (list []measurement, err error) {
	pkg := ""
	for line := range strings.Lines(output) {
		if name, ok := strings.CutPrefix(line, "pkg: "); ok {
			pkg = strings.TrimSpace(name[strings.LastIndex(name, "/")+1:])
			continue
		}
		f := strings.Fields(line)
		if len(f) < 4 || len(f)%2 != 0 || !strings.HasPrefix(f[0], "Benchmark") {
			continue // its log, and what is said at the end
		}
		m := measurement{pkg: pkg, name: plainName(f[0]), values: map[string]float64{}}
		if m.n, err = strconv.Atoi(f[1]); err != nil {
			return nil, fmt.Errorf("%q: iterations: %w", strings.TrimSpace(line), err)
		}
		for i := 2; i < len(f); i += 2 {
			if m.values[f[i+1]], err = strconv.ParseFloat(f[i], 64); err != nil {
				return nil, fmt.Errorf("%q: %s: %w", strings.TrimSpace(line), f[i+1], err)
			}
		}
		list = append(list, m)
	}
	return list, nil
}

var processors = regexp.MustCompile(`-\d+$`)

// plainName is without the number of processors, and with spaces where they were written.
func plainName(name string) string {
	return strings.ReplaceAll(processors.ReplaceAllString(name, ""), "_", " ")
}

// row is a benchmark's: its time and what it allocates, or what it measures itself.
func (m measurement) row() row {
	one := row{what: strings.Replace(strings.TrimPrefix(m.name, "Benchmark"), "/", ": ", 1) + " (" + m.pkg + ")", n: m.n}
	if p50, ok := m.values["p50-us"]; ok {
		one.p50, one.p99 = figure(p50/1000), figure(m.values["p99-us"]/1000)
		return one
	}
	if rate, ok := m.values["changes/s"]; ok {
		one.most = figure(rate) + " /s"
		return one
	}
	took := time.Duration(m.values["ns/op"])
	one.most = figure(m.values["ns/op"]/1000) + " µs"
	if took >= time.Millisecond {
		one.most = figure(milliseconds(took)) + " ms"
	}
	if allocs, ok := m.values["allocs/op"]; ok {
		one.most += fmt.Sprintf(", %.0f allocations", allocs)
	}
	if strings.HasPrefix(m.name, "BenchmarkStep/") && !strings.Contains(m.name, "of 1000 domains") {
		one.aim, one.verdict = "≤ 50 µs", judged(took <= stepAim)
	}
	return one
}

// goBenchmarks runs them as everybody would.
func goBenchmarks(ctx context.Context, p plan, r *report) error {
	before := machineNow()
	args := append([]string{"test", "-run", "^$", "-bench", ".", "-benchmem", "-benchtime", p.benchtime.String()}, benchmarks...)
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("go %s: %w: %s", strings.Join(args, " "), err, out)
	}
	list, err := parseBenchmarks(string(out))
	if err != nil {
		return err
	}
	if len(list) == 0 {
		return fmt.Errorf("go %s printed no benchmark", strings.Join(args, " "))
	}
	r.section("Parts alone: go test -bench, each operation", before)
	for _, m := range list {
		r.add(m.row())
	}
	return nil
}
