// Package packages holds what make deb rpm makes against Debian's own tools: they are installed, used, upgraded, removed and purged in
// a Debian root that a test may write to, since it is a layer over the machine's own.
package packages

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/paramedic-ha/paramedic/agent/e2e/lab"
)

// The checkout, and where make deb rpm leaves the packages.
const (
	checkout = "../../.."
	dist     = checkout + "/dist"
)

// root is a Debian to write to. Its network is its own: a card of which the cable can be pulled.
type root struct {
	t    *testing.T
	host *lab.Host
}

const rootDir = lab.Dir + "/root"

func newRoot(t *testing.T) *root {
	t.Helper()
	l, err := lab.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	host, err := l.Host("debian")
	if err != nil {
		t.Fatal(err)
	}
	r := &root{t: t, host: host}
	r.outside("sh", "-ec", `
mkdir -p `+rootDir+` /run/lab/layer
mount -t tmpfs -o mode=755,size=1g layer /run/lab/layer
mkdir /run/lab/layer/upper /run/lab/layer/work
mount -t overlay -o lowerdir=/,upperdir=/run/lab/layer/upper,workdir=/run/lab/layer/work root `+rootDir+`
mount --rbind /proc `+rootDir+`/proc
mount --rbind /sys `+rootDir+`/sys
mount --rbind /dev `+rootDir+`/dev
mount -t tmpfs -o mode=755 run `+rootDir+`/run
printf '#!/bin/sh\nexit 101\n' > `+rootDir+`/usr/sbin/policy-rc.d
chmod 755 `+rootDir+`/usr/sbin/policy-rc.d
ip link add lan0 type veth peer name cable0
ip link set cable0 up
ip link set lan0 up
`)
	return r
}

func (r *root) outside(name string, args ...string) string {
	r.t.Helper()
	out, err := r.host.Run(name, args...)
	if err != nil {
		r.t.Fatal(err)
	}
	return out
}

// run runs a command in the root, as its administrator.
func (r *root) run(name string, args ...string) string {
	r.t.Helper()
	out, err := r.try(name, args...)
	if err != nil {
		r.t.Fatal(err)
	}
	return out
}

func (r *root) try(name string, args ...string) (string, error) {
	return r.host.Run("chroot", append([]string{rootDir, "env", "DEBIAN_FRONTEND=noninteractive", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", name}, args...)...)
}

// json is what a command of the agent answers.
func (r *root) json(into any, args ...string) error {
	out, err := r.host.Output("chroot", append([]string{rootDir, "/usr/bin/paramedic", "-o", "json"}, args...)...)
	if err != nil {
		return err
	}
	if err := json.Unmarshal([]byte(out), into); err != nil {
		return fmt.Errorf("%v answered %q: %w", args, out, err)
	}
	return nil
}

func (r *root) path(p string) string { return r.host.Path(rootDir + p) }

func (r *root) exists(p string) bool {
	_, err := os.Lstat(r.path(p))
	return err == nil
}

func (r *root) write(path, text string) {
	r.t.Helper()
	if err := r.host.WriteFile(rootDir+path, text, 0o644); err != nil {
		r.t.Fatal(err)
	}
}

// bring puts a file of ours into the root and gives its name there.
func (r *root) bring(file string) string {
	r.t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		r.t.Fatalf("%v: run make deb rpm", err)
	}
	to := "/" + filepath.Base(file)
	r.write(to, string(data))
	return to
}

// service runs the agent as its unit says: by its command line, as its user, with its capabilities and directories. It returns when the
// agent says that it is ready, in the way that systemd is told.
func (r *root) service() *lab.Process {
	r.t.Helper()
	unit := r.unit()
	name := "paramedic-" + strconv.Itoa(os.Getpid())
	heard, err := r.host.ListenUnixgram("@" + name) // where systemd would: an abstract one needs no file
	if err != nil {
		r.t.Fatal(err)
	}
	defer heard.Close()
	user := unit("User")
	r.run("install", "-d", "-o", user, "-g", unit("Group"), "-m", unit("RuntimeDirectoryMode"), "/run/"+unit("RuntimeDirectory"))
	r.run("install", "-d", "-o", user, "-g", unit("Group"), "-m", unit("StateDirectoryMode"), "/var/lib/"+unit("StateDirectory"))
	var caps []string
	for c := range strings.FieldsSeq(unit("AmbientCapabilities")) {
		caps = append(caps, "+"+strings.ToLower(strings.TrimPrefix(c, "CAP_")))
	}
	list := strings.Join(caps, ",")
	args := []string{
		rootDir, "env", "-i", "PATH=/usr/bin:/bin", "NOTIFY_SOCKET=@" + name,
		"setpriv", "--reuid", user, "--regid", unit("Group"), "--clear-groups", "--no-new-privs",
		"--bounding-set", "-all," + list, "--inh-caps", "-all," + list, "--ambient-caps", "-all," + list,
	}
	p, err := r.host.Start("chroot", append(args, strings.Fields(unit("ExecStart"))...)...)
	if err != nil {
		r.t.Fatal(err)
	}
	if err := heard.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
		r.t.Fatal(err)
	}
	buf := make([]byte, 4096)
	for {
		n, _, err := heard.ReadFrom(buf)
		if err != nil {
			r.t.Fatalf("the agent does not say that it is ready: %v\n%s", err, p.Log())
		}
		if slices.Contains(strings.Split(string(buf[:n]), "\n"), "READY=1") {
			return p
		}
	}
}

// unit gives the settings of the installed unit.
func (r *root) unit() func(key string) string {
	r.t.Helper()
	data, err := os.ReadFile(r.path("/usr/lib/systemd/system/paramedic.service"))
	if err != nil {
		r.t.Fatal(err)
	}
	return func(key string) string {
		r.t.Helper()
		for line := range strings.Lines(string(data)) {
			if value, ok := strings.CutPrefix(line, key+"="); ok {
				return strings.TrimSpace(value)
			}
		}
		r.t.Fatalf("the unit has no %s=", key)
		return ""
	}
}

// eventually waits for what must come.
func eventually(t *testing.T, what string, ok func() error) {
	t.Helper()
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	deadline := time.After(30 * time.Second)
	for err := ok(); err != nil; err = ok() {
		select {
		case <-again.C:
		case <-deadline:
			t.Fatalf("%s: %v", what, err)
		}
	}
}

// made is the one package of a kind that make has left.
func made(t *testing.T, glob string) string {
	t.Helper()
	file, err := lab.Made(dist, glob)
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// anew makes a package of the same files under another version.
func anew(t *testing.T, packager, version string) string {
	t.Helper()
	file, err := lab.Package(checkout, packager, version, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return file
}
