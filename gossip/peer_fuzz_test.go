package gossip

import (
	"io"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
)

// still is a transport that says nothing and hears what it is fed.
type still struct {
	packets chan *memberlist.Packet
	streams chan net.Conn
}

func (s still) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	return net.IP{192, 0, 2, 1}, DefaultPort, nil
}
func (s still) WriteTo([]byte, string) (time.Time, error) { return time.Now(), nil }
func (s still) WriteToAddress([]byte, memberlist.Address) (time.Time, error) {
	return time.Now(), nil
}

func (s still) DialTimeout(string, time.Duration) (net.Conn, error) { return nil, io.EOF }
func (s still) DialAddressTimeout(memberlist.Address, time.Duration) (net.Conn, error) {
	return nil, io.EOF
}
func (s still) PacketCh() <-chan *memberlist.Packet { return s.packets }
func (s still) StreamCh() <-chan net.Conn           { return s.streams }
func (s still) Shutdown() error                     { return nil }

// FuzzLibrary feeds the library what a holder of the key could send: nothing of it may end the process, and we stay a
// member of our own cluster with nobody in it whose name or address can't be.
func FuzzLibrary(f *testing.F) {
	p, err := NewPeer(PeerConfig{Node: "a", Bind: "192.0.2.1", Insecure: true, Log: slog.New(slog.DiscardHandler), Deliver: func(string, []byte) {}})
	if err != nil {
		f.Fatal(err)
	}
	wire := still{make(chan *memberlist.Packet), make(chan net.Conn)}
	c := p.library(&transport{})
	c.Transport = wire
	list, err := memberlist.Create(c)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = list.Shutdown() })
	for kind := range byte(15) {
		f.Add([]byte{kind, 0x82, 0xa4, 'N', 'o', 'd', 'e', 0xa1, 'b', 0xa4, 'A', 'd', 'd', 'r', 0xc4, 4, 1, 2, 3, 4}, kind%2 == 0)
	}
	f.Add([]byte{7, 2, 0, 1, 0, 1, 8, 0}, true)
	f.Fuzz(func(t *testing.T, b []byte, stream bool) {
		if stream {
			ours, theirs := net.Pipe()
			wire.streams <- ours
			_ = theirs.SetDeadline(time.Now().Add(100 * time.Millisecond))
			if _, err := theirs.Write(b); err == nil {
				_ = theirs.SetReadDeadline(time.Now().Add(time.Millisecond))
				_, _ = io.Copy(io.Discard, theirs)
			}
			theirs.Close()
		} else {
			wire.packets <- &memberlist.Packet{Buf: b, From: &net.UDPAddr{IP: net.IP{192, 0, 2, 9}, Port: 1}, Timestamp: time.Now()}
		}
		for _, m := range p.Members() {
			if checkName(m.Node) != nil || !m.Addr.IsValid() {
				t.Fatalf("let in: %+v", m)
			}
		}
	})
}
