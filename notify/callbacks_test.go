package notify

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/paramedic-ha/paramedic/notify/delivery"
)

func TestWhatIsReservedIsCalledOnlyWhenANetworkWithinIsNamed(t *testing.T) {
	for _, c := range []struct {
		addr, allow string
		refused     string // a part of why; empty: allowed
	}{
		{"10.0.0.5", "", ""},
		{"2001:db8::5", "", ""},
		{"10.0.0.5", "10.0.0.0/8", ""},
		{"192.0.2.1", "10.0.0.0/8", "in no network of notify.allow_callbacks"},
		{"::ffff:10.0.0.5", "10.0.0.0/8", ""},
		{"127.0.0.1", "", "loopback"},
		{"127.9.9.9", "0.0.0.0/0", "loopback"},
		{"127.0.0.1", "127.0.0.0/8", ""},
		{"127.0.0.1", "127.0.0.0/24", ""},
		{"127.0.1.1", "127.0.0.0/24 0.0.0.0/0", "loopback"},
		{"::1", "", "loopback"},
		{"::1", "::/0", "loopback"},
		{"::1", "::1/128", ""},
		{"::ffff:127.0.0.1", "", "loopback"},
		{"::ffff:127.0.0.1", "127.0.0.0/8", ""},
		{"::7f00:1", "", "::7f00:1 (127.0.0.1) is a loopback"},
		{"169.254.169.254", "", "link-local"},
		{"169.254.169.254", "0.0.0.0/0", "link-local"},
		{"169.254.169.254", "169.254.169.254/32", ""},
		{"fe80::1%eth0", "", "link-local"},
		{"fe80::a9fe:a9fe", "fe80::/64", ""},
		{"fd00:ec2::254", "fd00::/8", "metadata"},
		{"fd00:ec2::255", "fd00::/8", ""},
		{"0.0.0.0", "", "unspecified"},
		{"0.1.2.3", "", "unspecified"},
		{"::", "", "unspecified"},
		{"224.0.0.1", "", "multicast"},
		{"255.255.255.255", "", "broadcast"},
		{"ff02::1", "", "multicast"},
		{"2002:7f00:1::", "", "2002:7f00:1:: (127.0.0.1) is a loopback"},
		{"2002:a9fe:a9fe::1", "2000::/3", "link-local"},
		{"2002:a00:5::1", "", ""},
		{"64:ff9b::7f00:1", "", "loopback"},
		{"64:ff9b::a9fe:a9fe", "64:ff9b::/96", "link-local"},
		{"64:ff9b::a9fe:a9fe", "64:ff9b::/96 169.254.0.0/16", ""},
		{"64:ff9b::a00:5", "64:ff9b::/96", ""},
		{"64:ff9b::a00:5", "10.0.0.0/8", "in no network"},
		{"64:ff9b:1::a9fe:a9fe", "", "link-local"},
		{"64:ff9b:1:a9fe:a9:fe00::", "", "link-local"},
		{"2001:0:a00:5::80ff:fffe", "", "2001:0:a00:5::80ff:fffe (127.0.0.1) is a loopback"},
		{"2001:0:7f00:1::1", "", "loopback"},
	} {
		var allow []netip.Prefix
		for text := range strings.FieldsSeq(c.allow) {
			allow = append(allow, netip.MustParsePrefix(text))
		}
		err := CheckCallback(allow, netip.MustParseAddr(c.addr))
		if c.refused == "" && err != nil || c.refused != "" && (err == nil || !strings.Contains(err.Error(), c.refused)) {
			t.Errorf("%s with allow_callbacks [%s]: %v, want %q", c.addr, c.allow, err, c.refused)
		}
	}
}

// FuzzCheckCallback holds it to the definition: nothing that is reserved passes an allowance that names no reserved network.
func FuzzCheckCallback(f *testing.F) {
	for _, a := range []string{"127.0.0.1", "::ffff:169.254.169.254", "64:ff9b::7f00:1", "2002:7f00:1::", "2001:db8::1"} {
		b := netip.MustParseAddr(a).AsSlice()
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		addr, ok := netip.AddrFromSlice(b)
		if !ok {
			return
		}
		everywhere := prefixes("0.0.0.0/0", "::/0")
		plain := addr.Unmap()
		if special := plain.IsLoopback() || plain.IsUnspecified() || plain.IsMulticast() || plain.IsLinkLocalUnicast(); special && CheckCallback(everywhere, addr) == nil {
			t.Errorf("%v passes", addr)
		}
		if (CheckCallback(everywhere, addr) == nil) != (CheckCallback(nil, addr) == nil) {
			t.Errorf("%v: all networks are another thing than none named", addr)
		}
	})
}

// nameServer is a real one on this host. answer gives the addresses of a name at its nth question for its IPv4 ones.
func nameServer(t testing.TB, answer func(n int64) []string) *net.Resolver {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var asked atomic.Int64
	server := &dns.Server{PacketConn: conn, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		if name := q.Question[0]; name.Qtype == dns.TypeA {
			for _, a := range answer(asked.Add(1)) {
				m.Answer = append(m.Answer, &dns.A{Hdr: dns.RR_Header{Name: name.Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 0}, A: net.ParseIP(a)})
			}
		}
		_ = w.WriteMsg(m)
	})}
	done := make(chan struct{})
	go func() { defer close(done); _ = server.ActivateAndServe() }()
	t.Cleanup(func() { _ = server.Shutdown(); _ = conn.Close(); <-done })
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
}

// TestANameThatLeadsElsewhereTheNextTimeGainsNothing: its server says an allowed address first, or beside the other, and the
// forbidden one when it is asked again.
func TestANameThatLeadsElsewhereTheNextTimeGainsNothing(t *testing.T) {
	c := newConsumer(t, nil)
	_, port, _ := net.SplitHostPort(strings.TrimPrefix(c.URL, "http://"))
	url := "http://consumer.example:" + port + "/"
	open := prefixes("127.0.0.1/32")
	for name, test := range map[string]struct {
		answer func(n int64) []string
		want   []bool // taken, by attempt
	}{
		"allowed, then not": {func(n int64) []string {
			if n == 1 {
				return []string{"127.0.0.1"}
			}
			return []string{"127.0.0.2"}
		}, []bool{true, false}},
		"not, then allowed": {func(n int64) []string {
			if n == 1 {
				return []string{"127.0.0.2"}
			}
			return []string{"127.0.0.1"}
		}, []bool{false, true}},
		"both, the forbidden one first": {func(int64) []string { return []string{"127.0.0.2", "127.0.0.1"} }, []bool{true, true}},
		"metadata":                      {func(int64) []string { return []string{"169.254.169.254"} }, []bool{false, false}},
	} {
		t.Run(name, func(t *testing.T) {
			names := nameServer(t, test.answer)
			for i, want := range test.want {
				s := newSender("test", &way{dial: newDialer(open, names), tls: new(tls.Config)}, time.Now) // a fresh one: no connection is kept
				a := s.post(t.Context(), []string{url}, request{id: "id", body: []byte("x")})
				s.close()
				if got := a.outcome.Verdict == delivery.Settled; got != want {
					t.Errorf("attempt %d: %+v", i+1, a.outcome)
				}
				if !want && (a.reached || !strings.Contains(a.outcome.Err, "allow_callbacks")) {
					t.Errorf("attempt %d: reached %v, %q", i+1, a.reached, a.outcome.Err)
				}
			}
		})
	}
}

func TestAReservedAddressThatIsWrittenOutIsRefusedWhenItIsSubscribed(t *testing.T) {
	cfg, _ := testConfig(t, t.TempDir())
	cfg.AllowCallbacks = nil
	n, _ := start(t, cfg)
	wish := func(endpoint string) Subscription { return Subscription{Name: "a", Endpoints: []string{endpoint}} }
	for _, e := range []string{"http://127.0.0.1:80/", "http://[::ffff:127.0.0.1]/", "http://169.254.169.254/latest", "http://[fe80::1%25eth0]/"} {
		if _, _, err := n.Subscribe(t.Context(), wish(e), false); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "endpoints[0]") {
			t.Errorf("%s: %v", e, err)
		}
	}
	s, _, err := n.Subscribe(t.Context(), wish("http://192.0.2.1/"), false)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := n.Update(t.Context(), s.ID, SubscriptionPatch{Endpoints: &[]string{"http://[::1]/"}}); !errors.Is(err, ErrInvalid) {
		t.Error(err)
	}
}
