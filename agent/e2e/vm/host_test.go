// Package vm holds the packaged agent on a real systemd: a Debian of its own boots in an emulated machine, the package is installed as
// docs/install.md says, and what the unit, its scripts and the agent promise each other is looked at from inside. Debian's package
// only: no distribution that installs RPMs could be had here.
package vm

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/paramedic-ha/paramedic/agent/e2e/lab"
)

const checkout = "../../.."

// host is the Debian and the test that uses it at the moment.
type host struct {
	*testing.T
	vm *lab.Debian
}

// upgraded is the version of the package that comes later.
const upgraded = "99"

// boot gives a host on which nothing is installed yet. The packages of this tree and of the next version lie in its dist and newer.
func boot(t *testing.T) *host {
	t.Helper()
	files := make(map[string][]byte)
	now, err := lab.Made(checkout+"/dist", "paramedic_*_amd64.deb")
	if err != nil {
		t.Fatal(err)
	}
	later, err := lab.Package(checkout, "deb", upgraded, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for dir, file := range map[string]string{"dist": now, "newer": later} {
		if files[dir+"/"+filepath.Base(file)], err = os.ReadFile(file); err != nil {
			t.Fatal(err)
		}
	}
	l, err := lab.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	box, err := l.Host("vm")
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	h := &host{T: t}
	if h.vm, err = box.Debian(files); err != nil {
		t.Fatal(err)
	}
	h.booted()
	t.Logf("booted after %.0f s", time.Since(began).Seconds())
	return h
}

// booted waits until systemd has nothing more to start.
func (h *host) booted() {
	h.Helper()
	if out, err := h.vm.Run("systemctl is-system-running --wait"); err != nil {
		failed, _ := h.vm.Run("systemctl --failed --no-legend --plain; systemctl list-jobs --no-legend")
		h.Fatalf("the host is not well: %s%s", out, failed)
	}
}

// run has the host's administrator run a command; what it says is returned without the last newline.
func (h *host) run(format string, args ...any) string {
	h.Helper()
	out, err := h.vm.Run(fmt.Sprintf(format, args...))
	if err != nil {
		h.Fatal(err)
	}
	return strings.TrimSpace(out)
}

// refused runs what must fail, and returns what it says.
func (h *host) refused(format string, args ...any) string {
	h.Helper()
	command := fmt.Sprintf(format, args...)
	out, err := h.vm.Run(command)
	if err == nil {
		h.Errorf("%s: it works, and should not: %s", command, out)
	}
	return out
}

func (h *host) want(what, got, want string) {
	h.Helper()
	if got != want {
		h.Errorf("%s: %q, want %q", what, got, want)
	}
}

func (h *host) contains(what, got string, want ...string) {
	h.Helper()
	for _, w := range want {
		if !strings.Contains(got, w) {
			h.Errorf("%s: %q lacks %q", what, got, w)
		}
	}
}

func (h *host) write(path, text string) {
	h.Helper()
	h.run("mkdir -p %s; echo %s | base64 -d >%s", filepath.Dir(path), base64.StdEncoding.EncodeToString([]byte(text)), path)
}

// eventually waits for what must come.
func (h *host) eventually(what string, ok func() error) {
	h.Helper()
	deadline := time.Now().Add(3 * time.Minute)
	for {
		err := ok()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			h.Fatalf("waited for %s: %v\n%s", what, err, h.journal())
		}
		<-time.After(200 * time.Millisecond)
	}
}

// journal is what the unit has said last, and systemd of it, and before that where the loop stood when a watchdog ended it.
func (h *host) journal() string {
	out, _ := h.vm.Run(`journalctl -u paramedic --no-pager -o cat | grep -m1 -B40 'agent.(\*loop).run'; journalctl -u paramedic --no-pager -o cat | grep -v -e '^\s' -e '^runtime' | tail -n 60`)
	return out
}

// property is one of the unit.
func (h *host) property(name string) string {
	h.Helper()
	return h.run("systemctl show -P %s paramedic", name)
}

// seconds reads what the host's own clock says.
func seconds(t *testing.T, text string) float64 {
	t.Helper()
	s, err := strconv.ParseFloat(text, 64)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// ask decodes what a command of the agent answers.
func (h *host) ask(into any, command string) error {
	out, err := h.vm.Run("paramedic -o json " + command)
	if err != nil {
		return err
	}
	return json.Unmarshal([]byte(out), into)
}

type status struct {
	Sources []struct{ Name, Sight, Text string }
	Cluster struct {
		Watch struct {
			Echo       string
			EchoReason string `json:"echo_reason"`
		}
	}
	Deliveries struct{ Pending int }
}

// sources gives the sight of each source and what it lacks, once all have looked.
func (h *host) sources(settled func(map[string]string) error) {
	h.Helper()
	h.eventually("what the sources see", func() error {
		var s status
		if err := h.ask(&s, "status"); err != nil {
			return err
		}
		all := make(map[string]string)
		for _, source := range s.Sources {
			all[source.Name] = strings.TrimSpace(source.Sight + " " + source.Text)
		}
		return settled(all)
	})
}

// dropIn changes the unit as an administrator does, until the test ends.
func (h *host) dropIn(name, text string) {
	h.Helper()
	file := "/etc/systemd/system/paramedic.service.d/" + name + ".conf"
	h.write(file, text)
	h.Cleanup(func() {
		h.run("rm -r %s && systemctl daemon-reload && systemctl restart paramedic", filepath.Dir(file))
	})
	h.run("systemctl daemon-reload && systemctl restart paramedic")
}

// configure replaces the configuration until the test ends, and does not tell the agent.
func (h *host) configure(text string) {
	h.Helper()
	const file = "/etc/paramedic/paramedic.yaml"
	h.run("cp -n %[1]s /root/packaged.yaml", file)
	h.write(file, text)
	h.Cleanup(func() { h.run("cp /root/packaged.yaml %s && systemctl restart paramedic", file) })
}

// page is one of the manual.
func page(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(checkout + "/docs/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

var command = regexp.MustCompile(`(?m)^    (\S.*)$`)

// commands are those of a section of a page, as they stand.
func commands(t *testing.T, name, section string) (all []string) {
	t.Helper()
	_, text, ok := strings.Cut(page(t, name), "\n## "+section+"\n")
	text, _, _ = strings.Cut(text, "\n## ")
	for _, m := range command.FindAllStringSubmatch(text, -1) {
		all = append(all, m[1])
	}
	if !ok || len(all) == 0 {
		t.Fatalf("docs/%s has no commands in a section %q", name, section)
	}
	return all
}

// firstCommand is the one in a page's text that begins so.
func firstCommand(t *testing.T, name, begin string) string {
	t.Helper()
	m := regexp.MustCompile("`(" + regexp.QuoteMeta(begin) + "[^`]*)`").FindStringSubmatch(page(t, name))
	if m == nil {
		t.Fatalf("docs/%s names no command %q", name, begin)
	}
	return m[1]
}
