package ipmi

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// simulator is a running ipmi_sim (Debian's openipmi): a real BMC but for its hardware, which is files and a console.
type simulator struct {
	t       testing.TB
	dir     string
	lan     int // its RMCP+ port, on loopback
	vm      string
	command *exec.Cmd
	console net.Conn
}

var values = map[string]int{"ambient": 25, "cputemp": 45, "p12v": 200, "fan1": 70, "fan2": 70}

func startSimulator(t testing.TB) *simulator {
	t.Helper()
	s := &simulator{t: t, dir: t.TempDir()}
	for name, v := range values {
		s.value(name, v)
	}
	s.start()
	t.Cleanup(s.stop)
	return s
}

// freePorts are some at which nobody listens, below those that the kernel gives to outgoing connections, which would take them meanwhile.
func freePorts(t testing.TB, n int) (ports []int) {
	t.Helper()
	// The simulator refuses a port at which a connection has just ended, so they are looked at as it does.
	asItDoes := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) { _ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 0) })
	}}
	for range 100 {
		port := 16384 + rand.N(16384)
		l, err := asItDoes.Listen(t.Context(), "tcp", "127.0.0.1:"+strconv.Itoa(port))
		if err != nil {
			t.Logf("port %d is taken: %v", port, err)
			continue
		}
		defer l.Close() // when there are enough: none is given twice
		if ports = append(ports, port); len(ports) == n {
			return ports
		}
	}
	t.Fatal("no ports of 127.0.0.1 are free")
	return nil
}

func (s *simulator) start() {
	s.t.Helper()
	ports := freePorts(s.t, 3)
	s.lan, s.vm = ports[0], "127.0.0.1:"+strconv.Itoa(ports[1])
	config, err := filepath.Abs("testdata/sim/bmc.emu")
	if err != nil {
		s.t.Fatal(err)
	}
	s.write("lan.conf", fmt.Sprintf(`name "sim"
set_working_mc 0x20
startlan 1
  addr 127.0.0.1 %d
  priv_limit admin
  allowed_auths_admin none md2 md5 straight
  guid a123456789abcdefa123456789abcdef
endlan
serial 15 127.0.0.1 %d codec VM
console 127.0.0.1 %d
user 2 true "paramedic" "lab" admin 10 none md2 md5 straight
`, ports[0], ports[1], ports[2]))
	s.write("commands", fmt.Sprintf("define DIR %q\ninclude %q\n", s.dir, config))
	if err := os.MkdirAll(filepath.Join(s.dir, "state"), 0o700); err != nil {
		s.t.Fatal(err)
	}
	// It dies of a write to a machine that has just gone, unless that signal is ignored.
	s.command = exec.Command("sh", "-c", `trap "" PIPE; exec ipmi_sim "$@"`, "sh", "-n", "-c", filepath.Join(s.dir, "lan.conf"), "-f", filepath.Join(s.dir, "commands"), "-s", filepath.Join(s.dir, "state"))
	var out bytes.Buffer
	s.command.Stdout, s.command.Stderr = &out, &out
	if err := s.command.Start(); err != nil {
		s.t.Fatalf("ipmi_sim of Debian's package openipmi is needed (make deps): %v", err)
	}
	for deadline := time.Now().Add(10 * time.Second); ; {
		s.console, err = net.Dial("tcp", "127.0.0.1:"+strconv.Itoa(ports[2]))
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			s.stop()
			s.t.Fatalf("ipmi_sim does not listen: %v\n%s", err, out.String())
		}
		<-time.After(5 * time.Millisecond)
	}
}

func (s *simulator) stop() {
	if s.console != nil {
		_ = s.console.Close()
	}
	_ = s.command.Process.Kill()
	_ = s.command.Wait()
}

func (s *simulator) write(name, text string) {
	s.t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// value sets what a threshold sensor measures, raw.
func (s *simulator) value(name string, raw int) {
	s.t.Helper()
	s.write(name+".new", strconv.Itoa(raw)+"\n")
	if err := os.Rename(filepath.Join(s.dir, name+".new"), filepath.Join(s.dir, name)); err != nil {
		s.t.Fatal(err)
	}
}

// say gives the console commands.
func (s *simulator) say(commands ...string) {
	s.t.Helper()
	for _, c := range commands {
		if _, err := fmt.Fprintf(s.console, "%s\r\n", c); err != nil {
			s.t.Fatal(err)
		}
	}
}

// bit sets a state of a discrete sensor, with an event.
func (s *simulator) bit(sensor, offset byte, on bool) {
	s.t.Helper()
	value := 0
	if on {
		value = 1
	}
	s.say(fmt.Sprintf("sensor_set_bit 0x20 0 0x%02x %d %d 1", sensor, offset, value))
}

func (s *simulator) signal(sig syscall.Signal) {
	s.t.Helper()
	if err := s.command.Process.Signal(sig); err != nil {
		s.t.Fatal(err)
	}
}

// tool is an operator with ipmitool, over the network.
func (s *simulator) tool(args ...string) string {
	s.t.Helper()
	all := append(strings.Fields(fmt.Sprintf("-I lanplus -C 3 -H 127.0.0.1 -p %d -U paramedic -P lab", s.lan)), args...)
	out, err := exec.Command("ipmitool", all...).CombinedOutput()
	if err != nil {
		s.t.Fatalf("ipmitool (Debian's package of that name; make deps) %v: %v\n%s", args, err, out)
	}
	return string(out)
}

// open is the way to it.
func (s *simulator) open() (Transport, error) { return dialSimulator(s.vm) }

// simulated carries commands as qemu's ipmi-bmc-extern does: on a stream, each message ended by A0h, escaped by AAh, with a
// sequence number before it and a checksum behind; and does of the kernel's driver what matters: an answer after some seconds
// whatever happens, and taking the events out of the BMC's buffer.
type simulated struct {
	conn      net.Conn
	attention chan struct{}
	answers   chan []byte
	alarm     chan struct{}
	done      chan struct{}
	readers   sync.WaitGroup

	mu       sync.Mutex
	sequence byte
}

const (
	endOfMessage = 0xA0
	endOfCommand = 0xA1
	escape       = 0xAA
	attentionOn  = 0x01
	driverLimit  = 3 * time.Second
)

func dialSimulator(address string) (*simulated, error) {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	v := &simulated{
		conn: conn, attention: make(chan struct{}, 1), answers: make(chan []byte, 1), alarm: make(chan struct{}, 1), done: make(chan struct{}),
	}
	// The protocol's version, then what the machine can do: nothing.
	if _, err := conn.Write([]byte{0xFF, 1, endOfCommand, 8, 0, endOfCommand}); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	v.readers.Go(v.read)
	v.readers.Go(v.acknowledge)
	// As the driver does when somebody wants events: the log, the buffer, and attention when it is full.
	if _, err := v.Do(Request{NetFn: netApp, Cmd: 0x2E, Data: []byte{0x0F}}); err != nil {
		return nil, errors.Join(err, v.Close())
	}
	return v, nil
}

func (v *simulated) Attention() <-chan struct{} { return v.attention }

func (v *simulated) Close() error {
	err := v.conn.Close()
	v.readers.Wait()
	return err
}

func (v *simulated) Do(r Request) ([]byte, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.sequence++
	message := append([]byte{v.sequence, r.NetFn << 2, r.Cmd}, r.Data...)
	var sum byte
	for _, b := range message {
		sum += b
	}
	var out []byte
	for _, b := range append(message, -sum) {
		if b == endOfMessage || b == endOfCommand || b == escape {
			out = append(out, escape, b|0x10)
			continue
		}
		out = append(out, b)
	}
	if _, err := v.conn.Write(append(out, endOfMessage)); err != nil {
		return nil, err
	}
	limit := time.NewTimer(driverLimit)
	defer limit.Stop()
	for {
		select {
		case <-limit.C:
			return nil, errTimedOut
		case <-v.done:
			return nil, net.ErrClosed
		case a := <-v.answers:
			if len(a) < 5 || a[0] != v.sequence {
				continue // late
			}
			if a[3] != 0 {
				return nil, CompletionError(a[3])
			}
			return a[4 : len(a)-1], nil
		}
	}
}

func (v *simulated) read() {
	defer close(v.done)
	in := bufio.NewReader(v.conn)
	var message []byte
	escaped := false
	for {
		b, err := in.ReadByte()
		switch {
		case err != nil:
			return
		case b == endOfMessage:
			select {
			case v.answers <- message:
			default: // nobody waits
			}
			message = nil
		case b == endOfCommand:
			if bytes.Equal(message, []byte{attentionOn}) || bytes.Equal(message, []byte{attentionOn + 1}) {
				select {
				case v.alarm <- struct{}{}:
				default:
				}
			}
			message = nil
		case b == escape:
			escaped = true
		case escaped:
			message, escaped = append(message, b&^0x10), false
		default:
			message = append(message, b)
		}
	}
}

// acknowledge empties the BMC's event message buffer and says so.
func (v *simulated) acknowledge() {
	for {
		select {
		case <-v.done:
			return
		case <-v.alarm:
		}
		for {
			if _, err := v.Do(Request{NetFn: netApp, Cmd: 0x35}); err != nil {
				break
			}
			select {
			case v.attention <- struct{}{}:
			default:
			}
		}
	}
}
