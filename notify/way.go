package notify

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"time"
)

// Proxy is the forward proxy by which the requests of this host leave, plain ones and those of TLS alike: it is asked for a
// connection (CONNECT, RFC 9110 9.3.6) to the address that this host has found and judged, and learns no name and no contents.
type Proxy struct {
	Address     string      // host:port; it is the operator's word, and CheckCallback does not judge it
	Credentials Credentials // of BasicCredentials; none: it asks for none
}

// maxTried is how many addresses of a name a proxy is asked for.
const maxTried = 4

// way is how connections to a consumer are made.
type way struct {
	dial dialFunc
	tls  *tls.Config
}

// exit is how connections leave this host.
type exit struct {
	allow   []netip.Prefix
	dial    dialFunc
	proxied dialFunc // nil: there is no proxy
}

func (n *Notifier) exitBy(allow []netip.Prefix, p *Proxy) *exit {
	e := &exit{allow: allow, dial: n.dial}
	if e.dial == nil {
		e.dial = newDialer(allow, nil)
	}
	if p != nil {
		e.proxied = newProxyDialer(*p, n.cfg.UserAgent, allow, nil)
	}
	return e
}

// SetExit replaces Config.AllowCallbacks and Config.Proxy. Requests that are under way end as they began; no connection of
// before is used again.
func (n *Notifier) SetExit(allow []netip.Prefix, p *Proxy) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.exit.Store(n.exitBy(allow, p))
	for _, w := range n.list() {
		w.mu.Lock()
		w.sender.use(n.way(w.sub))
		w.mu.Unlock()
	}
}

// way is that of a valid subscription; of a locked one without its certificate.
func (n *Notifier) way(s Subscription) *way {
	e := n.exit.Load()
	w := &way{dial: e.dial, tls: s.tlsConfig()}
	if e.proxied != nil && !s.Link.Direct {
		w.dial = e.proxied
	}
	return w
}

// newProxyDialer dials by a proxy. A name is looked up once, here, and the proxy is told addresses that CheckCallback permits.
func newProxyDialer(p Proxy, agent string, allow []netip.Prefix, names *net.Resolver) dialFunc {
	d := &net.Dialer{KeepAliveConfig: keepAlive, Resolver: names}
	return func(ctx context.Context, _, address string) (net.Conn, error) {
		ctx, cancel := context.WithTimeoutCause(ctx, dialTimeout, fmt.Errorf("no connection by proxy %s within %v", p.Address, dialTimeout))
		defer cancel()
		targets, err := judged(ctx, allow, names, address)
		if err != nil {
			return nil, err
		}
		for i, at := range targets {
			share := ctx
			if end, ok := ctx.Deadline(); ok && i+1 < len(targets) { // a dead address does not take the time of those behind it
				var cancel context.CancelFunc
				share, cancel = context.WithTimeout(ctx, time.Until(end)/time.Duration(len(targets)-i))
				defer cancel()
			}
			var conn net.Conn
			if conn, err = p.connect(share, d, agent, at); err == nil {
				return conn, nil
			}
		}
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, err
	}
}

// judged looks an address up and returns what of it may be called.
func judged(ctx context.Context, allow []netip.Prefix, names *net.Resolver, address string) ([]netip.AddrPort, error) {
	host, service, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("address %s: %w", address, err)
	}
	port, err := strconv.ParseUint(service, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("address %s: no port", address)
	}
	var found []netip.Addr
	if addr, err := netip.ParseAddr(host); err == nil {
		found = []netip.Addr{addr}
	} else if found, err = names.LookupNetIP(ctx, "ip", host); err != nil {
		return nil, err
	}
	var out []netip.AddrPort
	err = errors.New("the name has no address")
	for _, addr := range found {
		addr = addr.Unmap()
		if refused := CheckCallback(allow, addr); refused != nil {
			err = refused
		} else if len(out) < maxTried {
			out = append(out, netip.AddrPortFrom(addr, uint16(port)))
		}
	}
	if len(out) == 0 {
		return nil, err
	}
	return out, nil
}

// connect asks the proxy for a connection. What comes back is the bare connection to the proxy, behind its answer.
func (p Proxy) connect(ctx context.Context, d *net.Dialer, agent string, to netip.AddrPort) (net.Conn, error) {
	conn, err := d.DialContext(ctx, "tcp", p.Address)
	if err != nil {
		return nil, fmt.Errorf("proxy: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	err = p.ask(conn, agent, to)
	if !stop() && err == nil {
		err = context.Cause(ctx) // its deadline may come yet, and would end what the consumer is sent
	}
	if err != nil {
		_ = conn.Close()
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, fmt.Errorf("proxy %s: %w", p.Address, err)
	}
	return conn, nil
}

func (p Proxy) ask(conn net.Conn, agent string, to netip.AddrPort) error {
	var head bytes.Buffer
	fmt.Fprintf(&head, "CONNECT %[1]s HTTP/1.1\r\nHost: %[1]s\r\n", to)
	fields := http.Header{"User-Agent": {agent}}
	p.Credentials.authorize(fields, "Proxy-Authorization")
	_ = fields.Write(&head) // into memory
	head.WriteString("\r\n")
	if _, err := conn.Write(head.Bytes()); err != nil {
		return err
	}
	in := bufio.NewReader(io.LimitReader(conn, maxHeader))
	resp, err := http.ReadResponse(in, &http.Request{Method: http.MethodConnect}) //nolint:bodyclose // it ends with the connection
	if err != nil {
		return fmt.Errorf("its answer: %w", err)
	}
	switch {
	case resp.StatusCode == http.StatusProxyAuthRequired:
		return errors.New("it answered 407: it wants a user and password, or others, in notify.proxy")
	case resp.StatusCode/100 != 2:
		return fmt.Errorf("it answered %d to CONNECT %s", resp.StatusCode, to)
	case in.Buffered() > 0:
		return errors.New("it sent more than an answer")
	}
	return nil
}
