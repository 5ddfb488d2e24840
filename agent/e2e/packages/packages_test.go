package packages

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/paramedic-ha/paramedic/agent/e2e/lab"
)

// listing is what alarms and deliveries answer, as far as is looked at here.
type listing struct {
	Alarms []struct {
		ID        string `json:"id"`
		Resource  string `json:"resource"`
		Condition string `json:"condition"`
		State     string `json:"state"`
	} `json:"alarms"`
	Deliveries []struct {
		ID    string `json:"id"`
		Alarm string `json:"alarm_id"`
		State string `json:"state"`
	} `json:"deliveries"`
}

// oneUsefulHost is an administrator's first change of the packaged file: a link of his, and a consumer that does not listen yet.
const oneUsefulHost = `
hw: {nic: {include: [lan0]}, virt: {disabled: true}, ` + lab.NotTheMachine + `}
notify:
  allow_callbacks: [127.0.0.0/8]
  subscriptions:
    - {name: vnfm, endpoints: ["http://127.0.0.1:9/failure"]}
`

func TestTheDebianPackageIsInstalledRunUpgradedRemovedAndPurged(t *testing.T) {
	r := newRoot(t)
	r.run("dpkg", "--install", r.bring(made(t, "paramedic_*_amd64.deb")))
	if got := r.run("dpkg-query", "-W", "-f", "${db:Status-Status}", "paramedic"); got != "installed" {
		t.Fatalf("the package is %s", got)
	}
	if got := r.run("stat", "-c", "%U:%G %a", "/etc/paramedic"); got != "root:paramedic 750\n" {
		t.Errorf("/etc/paramedic is %s, want it root's, to be read by the agent", got)
	}
	r.run("paramedic", "check-config", "/etc/paramedic/paramedic.yaml")

	// As packaged, it watches.
	p := r.service()
	var status struct {
		Node string `json:"node"`
	}
	if err := r.json(&status, "status"); err != nil || status.Node == "" {
		t.Fatalf("the agent as installed: %+v, %v\n%s", status, err, p.Log())
	}
	stop(t, p)

	// As the administrator wants it, it has an alarm, and owes it to a consumer.
	r.write("/etc/paramedic/paramedic.yaml", oneUsefulHost)
	p = r.service()
	eventually(t, "the link is watched", func() error {
		_, err := r.try("paramedic", "topology", "nic/lan0")
		return err
	})
	r.outside("ip", "link", "set", "cable0", "down")
	var before listing
	standing := func(of *listing) func() error {
		return func() error {
			*of = listing{}
			if err := errors.Join(r.json(of, "alarms"), r.json(of, "deliveries")); err != nil {
				return err
			}
			for _, a := range of.Alarms {
				for _, d := range of.Deliveries {
					if a.Resource == "nic/lan0" && a.Condition == "carrier" && d.Alarm == a.ID && d.State == "pending" {
						return nil
					}
				}
			}
			return fmt.Errorf("no alarm of nic/lan0 that is owed: %+v\n%s", *of, p.Log())
		}
	}
	eventually(t, "the alarm stands and is owed", standing(&before))

	// An upgrade keeps the configuration as it was changed, what stands, and what is owed.
	r.run("dpkg", "--install", "--force-confold", r.bring(anew(t, "deb", "99")))
	if got := r.run("dpkg-query", "-W", "-f", "${Version}", "paramedic"); !strings.HasPrefix(got, "99") {
		t.Errorf("after the upgrade the version is %s", got)
	}
	stop(t, p)
	p = r.service()
	var after listing
	eventually(t, "alarm and delivery came through the upgrade", standing(&after))
	if before.Alarms[0].ID != after.Alarms[0].ID || before.Deliveries[0].ID != after.Deliveries[0].ID {
		t.Errorf("before the upgrade %+v, after it %+v", before, after)
	}
	stop(t, p)

	r.run("dpkg", "--remove", "paramedic")
	for path, want := range map[string]bool{
		"/usr/bin/paramedic": false, "/usr/lib/systemd/system/paramedic.service": false,
		"/etc/paramedic/paramedic.yaml": true, "/var/lib/paramedic/paramedic.db": true,
	} {
		if r.exists(path) != want {
			t.Errorf("after remove %s is there: %t, want %t", path, !want, want)
		}
	}
	r.write("/etc/paramedic/vnfm.secret", "kept")
	r.run("dpkg", "--purge", "paramedic")
	for path, want := range map[string]bool{
		"/etc/paramedic/paramedic.yaml": false, "/var/lib/paramedic": false, "/etc/paramedic/vnfm.secret": true,
	} {
		if r.exists(path) != want {
			t.Errorf("after purge %s is there: %t, want %t", path, !want, want)
		}
	}
	if got, err := r.try("dpkg-query", "-W", "-f", "${db:Status-Status}", "paramedic"); err == nil && got != "not-installed" {
		t.Errorf("after purge the package is %s", got)
	}
}

func stop(t *testing.T, p *lab.Process) {
	t.Helper()
	begin := time.Now()
	if err := p.Stop(30 * time.Second); err != nil {
		t.Fatalf("stop: %v\n%s", err, p.Log())
	}
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("it took %v to stop, and the unit allows 5 s", took)
	}
}

func TestTheRPMIsInstalledUpgradedAndErased(t *testing.T) {
	r := newRoot(t)
	file := r.bring(made(t, "paramedic-*.x86_64.rpm"))
	// What an rpm host has and Debian's database of packages doesn't know of.
	r.run("rpm", "--install", "--nodeps", file)
	if got := r.run("rpm", "--verify", "--nodeps", "paramedic"); got != "" {
		t.Errorf("rpm finds that the files differ from the package:\n%s", got)
	}
	if got := strings.TrimSpace(r.run("rpm", "--query", "--configfiles", "paramedic")); got != "/etc/paramedic/paramedic.yaml" {
		t.Errorf("configuration files: %q", got)
	}
	r.run("id", "paramedic")
	stop(t, r.service())
	r.write("/etc/paramedic/paramedic.yaml", oneUsefulHost)
	r.run("rpm", "--upgrade", "--nodeps", r.bring(anew(t, "rpm", "99")))
	if got, err := os.ReadFile(r.path("/etc/paramedic/paramedic.yaml")); err != nil || string(got) != oneUsefulHost {
		t.Errorf("the upgrade left %q, %v", got, err)
	}
	r.run("rpm", "--erase", "--nodeps", "paramedic")
	if r.exists("/usr/bin/paramedic") || !r.exists("/var/lib/paramedic") || !r.exists("/etc/paramedic/paramedic.yaml.rpmsave") {
		t.Error("after erasure the program is there, or the state and the configuration are not")
	}
}

// Both packages hold the same files, but for where the distributions differ.
func TestBothPackagesHoldTheSame(t *testing.T) {
	for deb, rpm := range map[string]string{"amd64": "x86_64", "arm64": "aarch64"} {
		inDeb := files(output(t, "sh", "-c", "dpkg-deb --fsys-tarfile "+made(t, "paramedic_*_"+deb+".deb")+" | tar -t"))
		inRPM := files(output(t, "rpm", "-qlp", made(t, "paramedic-*."+rpm+".rpm")))
		for _, only := range []struct {
			in, lacks map[string]bool
			may       []string
		}{
			{inDeb, inRPM, []string{"/usr/share/lintian/overrides/paramedic", "/usr/share/zsh/vendor-completions/_paramedic", "/usr/share/doc/paramedic/changelog.Debian.gz"}},
			{inRPM, inDeb, []string{"/usr/share/licenses/paramedic/LICENSE", "/usr/share/zsh/site-functions/_paramedic"}},
		} {
			for _, f := range only.may {
				if !only.in[f] {
					t.Errorf("%s: %s is lacking", deb, f)
				}
				delete(only.in, f)
			}
			for f := range only.in {
				if !only.lacks[f] && !slices.Contains(only.may, f) {
					t.Errorf("%s: %s is in one package only", deb, f)
				}
			}
		}
		for _, f := range []string{"/usr/bin/paramedic", "/usr/lib/systemd/system/paramedic.service", "/etc/paramedic/paramedic.yaml", "/usr/share/man/man8/paramedic.8.gz"} {
			if !inDeb[f] {
				t.Errorf("%s: the packages lack %s", deb, f)
			}
		}
	}
}

func TestThePackagesPassTheDistributionsChecks(t *testing.T) {
	if got := output(t, "lintian", "--no-cfg", "--fail-on", "none", made(t, "paramedic_*_amd64.deb")); withoutRoot(got) != "" {
		t.Errorf("lintian says:\n%s", got)
	}
	// As installed: it would unpack a file of ours over this machine, since the names in it begin with a slash.
	r := newRoot(t)
	r.run("rpm", "--install", "--nodeps", r.bring(made(t, "paramedic-*.x86_64.rpm")))
	got, err := r.try("rpmlint", "--rpmlintrc", r.bring(checkout+"/packaging/rpmlint"), "--installed", "paramedic")
	if err != nil || !strings.Contains(got, "0 errors, 0 warnings") {
		t.Errorf("rpmlint says: %v\n%s", err, got)
	}
}

// withoutRoot leaves out that lintian would rather be run by somebody else.
func withoutRoot(said string) string {
	return strings.TrimSpace(strings.ReplaceAll(said, "running with root privileges is not recommended!", ""))
}

func TestTheUnitIsSoundAndConfined(t *testing.T) {
	r := newRoot(t)
	r.run("dpkg", "--install", r.bring(made(t, "paramedic_*_amd64.deb")))
	if got := r.run("systemd-analyze", "verify", "/usr/lib/systemd/system/paramedic.service"); strings.Contains(got, "paramedic.service") {
		t.Errorf("systemd finds:\n%s", got)
	}
	// 2.5 of 10, in tenths; what is left is explained in docs/security.md.
	r.run("systemd-analyze", "security", "--offline=true", "--threshold=25", "/usr/lib/systemd/system/paramedic.service")
}

func TestAPackageIsTheSameBytesHoweverOftenItIsMade(t *testing.T) {
	for _, packager := range []string{"deb", "rpm"} {
		one, two := read(t, anew(t, packager, "99")), read(t, anew(t, packager, "99"))
		if one != two {
			t.Errorf("two %s packages of the same files differ", packager)
		}
	}
}

func read(t *testing.T, file string) string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func output(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
	return string(out)
}

// files are those of a listing, without the directories.
func files(listing string) map[string]bool {
	all := make(map[string]bool)
	for line := range strings.Lines(listing) {
		if f := strings.TrimPrefix(strings.TrimSpace(line), "."); f != "" && !strings.HasSuffix(f, "/") {
			all[f] = true
		}
	}
	return all
}
