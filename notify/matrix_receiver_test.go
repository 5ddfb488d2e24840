package notify

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"
)

// behaviour is what a receiver does until it turns good.
type behaviour struct {
	name string
	// answer writes to c after a whole request was read; nil: none is read. It says whether the receiver has taken the request, and
	// whether it goes on with the connection.
	answer func(c net.Conn) (taken, keep bool)
	// conn handles a connection of which nothing was read; nil: answer does.
	conn   func(c net.Conn)
	listen func(r *receiver) (net.Listener, error) // nil: as ever
	tls    func(p *pki, host string) *tls.Config   // nil: none. When good it has a valid certificate all the same
	host   string                                  // its name, for the name server; empty: it goes by its address
	bad    []string                                // what the name server says of it until it turns good
}

// status answers with a status line and further header lines.
func status(line string, header ...string) func(net.Conn) (bool, bool) {
	return func(c net.Conn) (bool, bool) {
		extra := ""
		for _, h := range header {
			extra += h + "\r\n"
		}
		length := "Content-Length: 0\r\n"
		if strings.HasPrefix(line, "204") {
			length = ""
		}
		_, err := io.WriteString(c, "HTTP/1.1 "+line+"\r\n"+extra+length+"\r\n")
		return line[0] == '2', err == nil
	}
}

func reset(c net.Conn) {
	switch c := c.(type) {
	case *net.TCPConn:
		_ = c.SetLinger(0)
	case *tls.Conn:
		reset(c.NetConn())
	}
	_ = c.Close()
}

// hang waits until the connection is closed, by either side.
func hang(c net.Conn) { _, _ = io.Copy(io.Discard, c) }

// behaviours are the rows of the matrix.
func behaviours() []behaviour {
	in := func(d time.Duration) string { return time.Now().Add(d).UTC().Format(http.TimeFormat) }
	all := []behaviour{
		{name: "200 and its body never ends", answer: func(c net.Conn) (bool, bool) {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
			for drip := time.NewTicker(50 * time.Millisecond); ; <-drip.C {
				if _, err := io.WriteString(c, "1\r\nx\r\n"); err != nil {
					drip.Stop()
					return true, false
				}
			}
		}},
		{name: "200 with a gigabyte", answer: func(c net.Conn) (bool, bool) {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n")
			for b := make([]byte, 1<<20); ; {
				if _, err := c.Write(b); err != nil {
					return true, false
				}
			}
		}},
		{name: "200 and closes what is idle", answer: func(c net.Conn) (bool, bool) {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
			return true, false
		}},
		{name: "429 until a date", answer: func(c net.Conn) (bool, bool) {
			return status("429 Too Many Requests", "Retry-After: "+in(2*time.Second))(c)
		}},
		{name: "503 until a date", answer: func(c net.Conn) (bool, bool) {
			return status("503 Service Unavailable", "Retry-After: "+in(2*time.Second))(c)
		}},
		{name: "refuses connections", listen: func(r *receiver) (net.Listener, error) {
			ln, err := net.Listen("tcp", r.addr)
			if err == nil {
				err = ln.Close()
			}
			return &nobody{ln, make(chan struct{})}, err
		}},
		{name: "does not accept", listen: deafListener},
		{name: "resets what it accepts", conn: reset},
		{name: "hangs after the connect", conn: func(c net.Conn) { <-closed(c) }},
		{name: "hangs after the request's first bytes", conn: func(c net.Conn) {
			_, _ = io.ReadFull(c, make([]byte, 16))
			<-closed(c)
		}},
		{name: "hangs after the request", answer: func(c net.Conn) (bool, bool) { hang(c); return false, false }},
		{name: "hangs in the answer's header", answer: func(c net.Conn) (bool, bool) {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-")
			hang(c)
			return false, false
		}},
		{name: "resets in the request", conn: func(c net.Conn) {
			_, _ = io.ReadFull(c, make([]byte, 16))
			reset(c)
		}},
		{name: "resets before the answer", answer: func(c net.Conn) (bool, bool) { reset(c); return false, false }},
		{name: "resets in the answer", answer: func(c net.Conn) (bool, bool) {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Le")
			reset(c)
			return false, false
		}},
		{name: "speaks no HTTP", answer: func(c net.Conn) (bool, bool) {
			_, _ = io.WriteString(c, "SSH-2.0-OpenSSH_9.2\r\n")
			return false, false
		}},
		{name: "its certificate has expired", tls: func(p *pki, host string) *tls.Config { return p.server(host, time.Now().Add(-time.Hour)) }},
		{name: "its certificate names another", tls: func(p *pki, _ string) *tls.Config { return p.server("192.0.2.1", time.Now().Add(time.Hour)) }},
		{name: "its certificate is of nobody", tls: func(_ *pki, host string) *tls.Config {
			return must(newPKI()).server(host, time.Now().Add(time.Hour))
		}},
		{name: "speaks no TLS", tls: func(*pki, string) *tls.Config { return nil }, conn: func(c net.Conn) {
			_, _ = io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n\r\n")
			_ = c.Close()
		}},
		{name: "hangs in the TLS handshake", tls: func(*pki, string) *tls.Config { return nil }, conn: hang},
		{name: "its name is gone", host: "gone.example.", bad: nil},
		{name: "its name leads elsewhere", host: "moved.example.", bad: []string{"127.255.255.254"}},
	}
	for _, line := range []string{
		"200 OK", "201 Created", "202 Accepted", "204 No Content", "400 Bad Request", "401 Unauthorized", "404 Not Found", "410 Gone",
		"429 Too Many Requests", "500 Internal Server Error", "503 Service Unavailable",
	} {
		all = append(all, behaviour{name: line[:3], answer: status(line)})
	}
	for _, line := range []string{"301 Moved Permanently", "302 Found", "307 Temporary Redirect"} {
		all = append(all, behaviour{name: line[:3], answer: status(line, "Location: http://127.0.0.1:9/")})
	}
	return append(all,
		behaviour{name: "429 for a second", answer: status("429 Too Many Requests", "Retry-After: 1")},
		behaviour{name: "503 for a second", answer: status("503 Service Unavailable", "Retry-After: 1")},
	)
}

// closed is closed when the connection is, without reading what the peer sends.
func closed(c net.Conn) <-chan struct{} { return c.(*watched).gone }

// watched knows when it is closed on this side.
type watched struct {
	net.Conn
	once sync.Once
	gone chan struct{}
}

func (w *watched) Close() error {
	err := w.Conn.Close()
	w.once.Do(func() { close(w.gone) })
	return err
}

// reading is a request that was read to its end.
type reading struct {
	at    time.Time
	run   string // of the sender
	id    string
	body  []byte
	taken bool // it was answered so
}

// receiver is one consumer of the matrix.
type receiver struct {
	behaviour
	title string // of its cell
	form  string
	addr  string
	pki   *pki
	vnfs  map[string]string // by alarm, of form sol

	mu       sync.Mutex
	ln       net.Listener
	conns    map[net.Conn]bool
	got      []*reading
	good     bool
	gate     chan struct{} // requests wait for it; nil: they don't
	held     int
	answered int // of those that were held
	group    sync.WaitGroup
}

// open begins to listen; addr is kept for ever.
func (r *receiver) open() (err error) {
	listen := func() (net.Listener, error) { return net.Listen("tcp", r.addr) }
	if !r.good && r.listen != nil {
		listen = func() (net.Listener, error) { return r.listen(r) }
	}
	ln, err := listen()
	if err != nil {
		return err
	}
	r.addr = ln.Addr().String()
	host, _, _ := net.SplitHostPort(r.addr)
	var config *tls.Config
	switch {
	case r.tls == nil:
	case r.good:
		config = r.pki.server(host, time.Now().Add(time.Hour))
	default:
		config = r.tls(r.pki, host)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ln, r.conns = ln, map[net.Conn]bool{}
	r.group.Go(func() {
		for {
			raw, err := ln.Accept()
			if err != nil {
				return
			}
			c := net.Conn(&watched{Conn: raw, gone: make(chan struct{})})
			r.mu.Lock()
			if r.conns == nil {
				r.mu.Unlock()
				_ = c.Close()
				return
			}
			r.conns[c] = true
			r.mu.Unlock()
			r.group.Go(func() {
				defer func() {
					_ = c.Close()
					r.mu.Lock()
					delete(r.conns, c)
					r.mu.Unlock()
				}()
				if config != nil {
					r.serve(tls.Server(c, config), r.keep)
				} else {
					r.serve(c, r.keep)
				}
			})
		}
	})
	return nil
}

func (r *receiver) keep(one *reading) { r.got = append(r.got, one) }

// serve answers what comes over c; keep is given each request, under mu.
func (r *receiver) serve(c net.Conn, keep func(*reading)) {
	if r.conn != nil && !r.good {
		r.conn(c)
		return
	}
	for in := bufio.NewReader(c); ; {
		req, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		body, err := io.ReadAll(req.Body)
		if err != nil {
			return
		}
		one := &reading{at: time.Now(), run: req.UserAgent(), id: req.Header.Get(HeaderID), body: body}
		r.mu.Lock()
		keep(one)
		gate := r.gate
		if gate != nil {
			r.held++
		}
		r.mu.Unlock()
		if gate != nil {
			select {
			case <-gate:
			case <-gone(c):
			}
		}
		answer := r.answer
		if r.good || answer == nil { // a receiver whose TLS is bad never comes here before
			answer = status("204 No Content")
		}
		// What it decides counts, not whether the sender hears of it.
		counted := &counting{Conn: c, wrote: func() {
			if gate != nil {
				r.mu.Lock()
				r.answered++
				r.mu.Unlock()
			}
		}}
		taken, on := answer(counted)
		counted.once.Do(counted.wrote) // it may be silent
		r.mu.Lock()
		one.taken = taken
		r.mu.Unlock()
		if !on {
			return
		}
	}
}

func gone(c net.Conn) <-chan struct{} {
	if t, ok := c.(*tls.Conn); ok {
		return closed(t.NetConn())
	}
	return closed(c)
}

// counting tells of the first byte that was written.
type counting struct {
	net.Conn
	once  sync.Once
	wrote func()
}

func (c *counting) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.once.Do(c.wrote)
	return n, err
}

// close is the receiver's process dying: nothing that came before is read after.
func (r *receiver) close() {
	r.mu.Lock()
	conns := r.conns
	r.conns = nil
	if r.gate != nil {
		close(r.gate)
		r.gate = nil
	}
	for c := range conns {
		reset(c.(*watched).Conn)
		_ = c.Close()
	}
	_ = r.ln.Close()
	r.mu.Unlock()
	r.group.Wait()
}

// turnGood is another process of it, on the same address, without fault.
func (r *receiver) turnGood() error {
	r.close()
	r.good = true
	return r.open()
}

// nobody listens.
type nobody struct {
	net.Listener
	done chan struct{}
}

// Accept accepts nothing.
func (n *nobody) Accept() (net.Conn, error) { <-n.done; return nil, net.ErrClosed }
func (n *nobody) Close() error              { close(n.done); return nil }

// deafListener has a backlog that is full, so that the kernel drops who wants to connect.
func deafListener(r *receiver) (net.Listener, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	d := &deaf{fd: fd, done: make(chan struct{})}
	host, _, _ := net.SplitHostPort(r.addr)
	at := unix.SockaddrInet4{Addr: [4]byte(net.ParseIP(host).To4())}
	if err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err == nil {
		err = unix.Bind(fd, &at)
	}
	if err == nil {
		err = unix.Listen(fd, 0)
	}
	var name unix.Sockaddr
	if err == nil {
		name, err = unix.Getsockname(fd)
	}
	if err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	d.addr = &net.TCPAddr{IP: net.ParseIP(host), Port: name.(*unix.SockaddrInet4).Port}
	for c, ok := d.fill(); ok; c, ok = d.fill() {
		d.full = append(d.full, c)
	}
	return d, nil
}

type deaf struct {
	fd   int
	addr *net.TCPAddr
	full []net.Conn
	done chan struct{}
}

// fill takes a place in the backlog; there is none when it does not get through.
func (d *deaf) fill() (net.Conn, bool) {
	c, err := net.DialTimeout("tcp", d.addr.String(), 100*time.Millisecond)
	return c, err == nil
}

// Accept accepts nothing.
func (d *deaf) Accept() (net.Conn, error) { <-d.done; return nil, net.ErrClosed }
func (d *deaf) Addr() net.Addr            { return d.addr }

func (d *deaf) Close() error {
	close(d.done)
	for _, c := range d.full {
		_ = c.Close()
	}
	return unix.Close(d.fd)
}

// pki is an authority and what it has signed.
type pki struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func newPKI() (*pki, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, NotBefore: time.Now().Add(-48 * time.Hour),
		NotAfter: time.Now().Add(48 * time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	return &pki{key, cert}, err
}

func (p *pki) write(path string) error {
	return os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.cert.Raw}), 0o600)
}

// server is a configuration with a certificate for an address.
func (p *pki) server(host string, until time.Time) *tls.Config {
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: host}, NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: until,
		IPAddresses: []net.IP{net.ParseIP(host)},
	}
	der := must(x509.CreateCertificate(rand.Reader, template, p.cert, key.Public(), p.key))
	return &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
}

// must is for what fails in a broken test only.
func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// directory is a name server that knows the receivers with names.
type directory struct {
	mu    sync.Mutex
	known map[string][]string
}

func (d *directory) set(name string, addresses []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.known[name] = addresses
}

// serve answers until the test ends, at the address returned.
func (d *directory) serve(t testing.TB) string {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &dns.Server{PacketConn: conn, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		name := q.Question[0]
		d.mu.Lock()
		addresses := d.known[name.Name]
		d.mu.Unlock()
		if len(addresses) == 0 {
			m.Rcode = dns.RcodeNameError
		}
		for _, a := range addresses {
			if name.Qtype == dns.TypeA {
				m.Answer = append(m.Answer, &dns.A{Hdr: dns.RR_Header{Name: name.Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 0}, A: net.ParseIP(a)})
			}
		}
		_ = w.WriteMsg(m)
	})}
	done := make(chan struct{})
	go func() { defer close(done); _ = server.ActivateAndServe() }()
	t.Cleanup(func() { _ = server.Shutdown(); _ = conn.Close(); <-done })
	return conn.LocalAddr().String()
}

// url is where the sender finds the receiver.
func (r *receiver) url(path string) string {
	scheme, at := "http://", r.addr
	if r.tls != nil {
		scheme = "https://"
	}
	if r.host != "" {
		_, port, _ := net.SplitHostPort(r.addr)
		at = net.JoinHostPort(strings.TrimSuffix(r.host, "."), port)
	}
	return fmt.Sprint(scheme, at, path)
}
