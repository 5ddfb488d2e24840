package lab

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Dir is the host's own tmpfs, as its processes see it. Host.Path is where the rest of the world finds the same.
const Dir = "/run/lab"

// holderScript makes a host out of fresh namespaces, says so, and waits for its standard input to close. Directories
// that a daemon writes to are tmpfs of the host's own; a fresh /proc and /sys show its processes and links only.
const holderScript = `
mount --make-rprivate /
mount -t proc proc /proc
mount -t sysfs sysfs /sys
for d in /run /etc/libvirt /var/lib/libvirt /var/cache/libvirt /var/log/libvirt; do
	if [ -d $d ]; then mount -t tmpfs -o mode=755,size=512m "$1" $d; fi
done
mkdir -p /run/lab /run/lock
hostname "$2"
echo ready
exec cat >/dev/null
`

// Host is one machine of the lab: a set of namespaces.
type Host struct {
	Name string

	lab    *Lab
	holder *exec.Cmd
	pid    int
	stdin  io.Closer // init ends when it closes: with this process at the latest
}

// Host makes a machine with only a loopback link (up) and a blackhole default route.
func (l *Lab) Host(name string) (*Host, error) {
	h := &Host{Name: name, lab: l}
	label := l.name + "-" + name
	h.holder = exec.Command("tini", "--", "sh", "-ec", holderScript, label, label, name)
	h.holder.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWPID | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC,
		// A terminal's ^C is for the program that owns the lab; it then closes the lab.
		Setpgid: true,
	}
	stdin, err := h.holder.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("make host %s: %w", name, err)
	}
	stdout, err := h.holder.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("make host %s: %w", name, err)
	}
	var stderr strings.Builder
	h.holder.Stderr = &stderr
	if err := h.holder.Start(); err != nil {
		return nil, fmt.Errorf("make host %s: %w", name, err)
	}
	h.stdin, h.pid = stdin, h.holder.Process.Pid
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil || line != "ready\n" {
		_ = h.holder.Process.Kill()
		_ = h.holder.Wait()
		return nil, fmt.Errorf("make host %s: its init said %q: %s", name, line, strings.TrimSpace(stderr.String()))
	}
	l.onClose(h.close)
	if err := h.initLinks(); err != nil {
		return nil, fmt.Errorf("make host %s: %w", name, err)
	}
	return h, nil
}

func (h *Host) close() error {
	// Killing init kills everything in its PID namespace before Wait returns.
	if err := h.holder.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("end host %s: %w", h.Name, err)
	}
	_ = h.holder.Wait() // "signal: killed"; closes stdin
	return nil
}

// Path is where p, a path inside the host, is found from outside.
func (h *Host) Path(p string) string { return fmt.Sprintf("/proc/%d/root%s", h.pid, p) }

// WriteFile writes inside the host's own file systems and makes missing directories.
func (h *Host) WriteFile(path, content string, mode os.FileMode) error {
	out := h.Path(path)
	if err := os.MkdirAll(filepath.Dir(out), 0o755); err != nil {
		return fmt.Errorf("host %s: write %s: %w", h.Name, path, err)
	}
	if err := os.WriteFile(out, []byte(content), mode); err != nil {
		return fmt.Errorf("host %s: write %s: %w", h.Name, path, err)
	}
	return nil
}

// inside runs f on a thread that has joined the host's namespaces. Sockets that f opens and processes that it starts
// belong to the host; goroutines that it starts do not.
func (h *Host) inside(f func() error) error {
	done := make(chan error, 1)
	go func() {
		// The thread is never unlocked, so it ends with this goroutine and nobody inherits its namespaces.
		runtime.LockOSThread()
		done <- h.enter(f)
	}()
	return <-done
}

func (h *Host) enter(f func() error) error {
	// A thread that shares its root and working directory with others may not change its mount namespace (setns(2)).
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return fmt.Errorf("enter host %s: unshare: %w", h.Name, err)
	}
	var fds []int
	defer func() {
		for _, fd := range fds {
			_ = unix.Close(fd)
		}
	}()
	kinds := []string{"net", "uts", "ipc", "pid", "mnt"}
	for _, kind := range kinds { // all opened before mnt hides our /proc
		fd, err := unix.Open(fmt.Sprintf("/proc/%d/ns/%s", h.pid, kind), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("enter host %s: open %s namespace: %w", h.Name, kind, err)
		}
		fds = append(fds, fd)
	}
	for i, fd := range fds {
		if err := unix.Setns(fd, 0); err != nil {
			return fmt.Errorf("enter host %s: %s namespace: %w", h.Name, kinds[i], err)
		}
	}
	return f()
}

// Listen opens a TCP listener inside the host. It may be used from any goroutine.
func (h *Host) Listen(addr string) (net.Listener, error) {
	var ln net.Listener
	err := h.inside(func() (err error) {
		ln, err = new(net.ListenConfig).Listen(context.Background(), "tcp", addr)
		return err
	})
	return ln, err
}

// ListenPacket opens a UDP socket inside the host. It may be used from any goroutine.
func (h *Host) ListenPacket(addr string) (net.PacketConn, error) {
	var c net.PacketConn
	err := h.inside(func() (err error) {
		c, err = new(net.ListenConfig).ListenPacket(context.Background(), "udp", addr)
		return err
	})
	return c, err
}

// ListenUnixgram opens a Unix datagram socket inside the host, an abstract one when its name begins with "@".
func (h *Host) ListenUnixgram(name string) (net.PacketConn, error) {
	var c net.PacketConn
	err := h.inside(func() (err error) {
		c, err = new(net.ListenConfig).ListenPacket(context.Background(), "unixgram", name)
		return err
	})
	return c, err
}

// Dial connects from inside the host to an address. It may be used from any goroutine.
func (h *Host) Dial(addr string) (net.Conn, error) { return h.DialTimeout(addr, 20*time.Second) }

// DialTimeout is Dial with a limit of its own.
func (h *Host) DialTimeout(addr string, limit time.Duration) (net.Conn, error) {
	var c net.Conn
	err := h.inside(func() (err error) {
		c, err = (&net.Dialer{Timeout: limit}).Dial("tcp", addr)
		return err
	})
	return c, err
}

// Packets gives every frame that passes one of the host's links, whole, a Read each. Close it.
func (h *Host) Packets(link string) (*os.File, error) {
	var fd int
	err := h.inside(func() error {
		l, err := net.InterfaceByName(link)
		if err != nil {
			return err
		}
		const all = unix.ETH_P_ALL<<8&0xff00 | unix.ETH_P_ALL>>8 // in network order
		if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, all); err != nil {
			return err
		}
		if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: l.Index}); err != nil {
			return errors.Join(err, unix.Close(fd))
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("host %s: listen on link %s: %w", h.Name, link, err)
	}
	return os.NewFile(uintptr(fd), "packets of "+link), nil
}

// Replace puts a file of the host's own in the place of the machine's, which must be there.
func (h *Host) Replace(path, content string) error {
	own := Dir + "/instead" + path
	if err := h.WriteFile(own, content, 0o644); err != nil {
		return err
	}
	_, err := h.Run("mount", "--bind", own, path)
	return err
}

// Process is one process inside a host.
type Process struct {
	Name string

	cmd    *exec.Cmd
	log    Buffer
	exited chan struct{}
	err    error // of Wait; set before exited is closed
}

// Log is everything that the process has written so far, standard output and error together.
func (p *Process) Log() string { return p.log.String() }

// Start runs a command inside the host. It ends with the host at the latest.
func (h *Host) Start(name string, args ...string) (*Process, error) {
	return h.StartWith(nil, nil, name, args...)
}

// StartWith is Start with an environment (nil: ours) and another place for standard output (nil: the log).
func (h *Host) StartWith(env []string, stdout io.Writer, name string, args ...string) (*Process, error) {
	path, err := exec.LookPath(name)
	if err != nil {
		return nil, fmt.Errorf("host %s: start %s: %w", h.Name, name, err)
	}
	p := &Process{Name: filepath.Base(name), exited: make(chan struct{})}
	p.cmd = exec.Command(path, args...)
	p.cmd.Env = env
	p.cmd.Stdout, p.cmd.Stderr = &p.log, &p.log
	if stdout != nil {
		p.cmd.Stdout = stdout
	}
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	p.cmd.WaitDelay = 10 * time.Second // a busy machine copies the last of the output late
	if err := h.inside(p.cmd.Start); err != nil {
		return nil, fmt.Errorf("host %s: start %s: %w", h.Name, p.Name, err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.exited)
	}()
	return p, nil
}

// Run is Start, wait, and the output; the error carries it when the command fails.
func (h *Host) Run(name string, args ...string) (string, error) {
	p, err := h.Start(name, args...)
	if err != nil {
		return "", err
	}
	if err := p.Wait(time.Minute); err != nil {
		return p.Log(), fmt.Errorf("host %s: %s %s: %w: %s", h.Name, name, strings.Join(args, " "), err, strings.TrimSpace(p.Log()))
	}
	return p.Log(), nil
}

// Output is Run, but returns standard output alone.
func (h *Host) Output(name string, args ...string) (string, error) {
	var out Buffer
	p, err := h.StartWith(nil, &out, name, args...)
	if err != nil {
		return "", err
	}
	if err := p.Wait(time.Minute); err != nil {
		return out.String(), fmt.Errorf("host %s: %s %s: %w: %s", h.Name, name, strings.Join(args, " "), err, strings.TrimSpace(p.Log()))
	}
	return out.String(), nil
}

// PID is the process id as this program's PID namespace counts.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Exited is closed when the process has ended and its output is complete.
func (p *Process) Exited() <-chan struct{} { return p.exited }

// Signal sends sig.
func (p *Process) Signal(sig os.Signal) error {
	if err := p.cmd.Process.Signal(sig); err != nil {
		return fmt.Errorf("signal %s (%v): %w", p.Name, sig, err)
	}
	return nil
}

// Wait returns how the process ended, nil for exit status 0.
func (p *Process) Wait(timeout time.Duration) error {
	select {
	case <-p.exited:
		return p.err
	case <-time.After(timeout):
		return fmt.Errorf("%s has not ended after %v", p.Name, timeout)
	}
}

// Kill is kill -9, and waits for the end.
func (p *Process) Kill() error {
	if err := p.Signal(syscall.SIGKILL); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	<-p.exited
	return nil
}

// Stop asks with SIGTERM and returns how the process ended; after the timeout it is killed and that is the error.
func (p *Process) Stop(timeout time.Duration) error {
	if err := p.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-p.exited:
		return p.err
	case <-time.After(timeout):
		return errors.Join(fmt.Errorf("%s did not stop in %v and was killed", p.Name, timeout), p.Kill())
	}
}

// Buffer collects what a process writes, to be read at any time.
type Buffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (b *Buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

// String is what has been written so far.
func (b *Buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
