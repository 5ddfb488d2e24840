package notify

import (
	"net/netip"
	"strings"
	"testing"
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
