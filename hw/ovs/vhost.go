package ovs

import (
	"bufio"
	"io"
	"maps"
	"os"
	"path"
	"strings"

	"github.com/paramedic-ha/paramedic/correlate"
)

// socket is what the kernel shows of a Unix socket's path.
type socket struct{ listens, connected bool }

// poll reads the sockets of vhost-user ports whose link is down. It reports whether they have changed.
func (t *table) poll() bool {
	wanted := map[string]bool{}
	for _, r := range t.db["Interface"] {
		if r.text("type") == "dpdkvhostuserclient" && r.text("link_state") == "down" {
			wanted[path.Clean(r["options"].pairs["vhost-server-path"])] = true
		}
	}
	was := t.sockets
	t.sockets = nil
	if len(wanted) > 0 {
		if f, err := os.Open(t.root.ProcPath("net", "unix")); err == nil {
			t.sockets = readSockets(f, wanted)
			_ = f.Close()
		}
	}
	return !maps.Equal(was, t.sockets)
}

// Of the flags and states in /proc/net/unix (net/unix/af_unix.c, unix_seq_show).
const (
	flagListens    = "00010000" // __SO_ACCEPTCON
	stateConnected = "03"       // SS_CONNECTED
)

// maxSockets bounds what is read of /proc/net/unix: some 100 bytes a socket.
const maxSockets = 16 << 20

// readSockets picks out the sockets whose path is wanted. A socket that was accepted has the path of the one that listens.
func readSockets(r io.Reader, wanted map[string]bool) map[string]socket {
	found := map[string]socket{}
	lines := bufio.NewScanner(io.LimitReader(r, maxSockets))
	for lines.Scan() {
		// Num RefCount Protocol Flags Type St Inode Path
		f := strings.Fields(lines.Text())
		if len(f) < 8 {
			continue
		}
		at := path.Clean(strings.Join(f[7:], " "))
		if !wanted[at] {
			continue
		}
		s := found[at]
		s.listens = s.listens || f[3] == flagListens
		s.connected = s.connected || f[5] == stateConnected
		found[at] = s
	}
	return found
}

// judgeSocket says whether the switch has lost a domain: its qemu listens on the port's socket, and nobody is connected. That
// the link is down alone says less: so it is as long as the guest has no driver, while it starts for instance. Where the
// switch itself listens (dpdkvhostuser), a domain that is off looks the same as one that was lost.
func (t *table) judgeSocket(s *statement, p *port) {
	if p.kind != "dpdkvhostuserclient" {
		return
	}
	status, text := by(p.text("link_state"), "up"), "a guest drives it"
	if status == correlate.StatusFailed {
		switch at := t.sockets[path.Clean(p.row["options"].pairs["vhost-server-path"])]; {
		case at.connected:
			status, text = correlate.StatusOK, "connected, and no driver in the guest"
		case at.listens:
			text = "the domain's qemu listens, and Open vSwitch is not connected"
		default:
			status, text = correlate.StatusUnknown, "no qemu listens"
		}
	}
	t.judge(s, p.id, correlate.CondBacking, p, status, text)
}
