package api

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"

	"github.com/paramedic-ha/paramedic/agent/ledger"
	"github.com/paramedic-ha/paramedic/gossip"
)

// neighbours are the other hosts as the server sees them: views as a ledger gives them, and a real peer for the keys.
type neighbours struct {
	mu      sync.Mutex
	hosts   []ledger.HostView
	alarms  []ledger.AlarmView
	domains []ledger.DomainView
	status  ClusterStatus
	peer    *gossip.Peer
}

func newNeighbours(t *testing.T, keys ...gossip.CipherKey) *neighbours {
	t.Helper()
	peer, err := gossip.NewPeer(gossip.PeerConfig{
		Node: "cmp-1", Label: "prod", Bind: "127.0.0.1", Keys: gossip.Keyring{Keys: keys}, Insecure: len(keys) == 0,
		Log: slog.New(slog.DiscardHandler), Deliver: func(string, []byte) {},
	})
	if err != nil {
		t.Fatal(err)
	}
	return &neighbours{peer: peer}
}

func (n *neighbours) Hosts() []ledger.HostView {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.hosts)
}

func (n *neighbours) Alarms() []ledger.AlarmView {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.alarms)
}

func (n *neighbours) Domains() []ledger.DomainView {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.domains)
}

func (n *neighbours) Forget(_ context.Context, host string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	before := len(n.hosts)
	n.hosts = slices.DeleteFunc(n.hosts, func(v ledger.HostView) bool { return v.Name == host })
	if len(n.hosts) == before {
		return fmt.Errorf("forget %s: %w", host, gossip.ErrUnknownHost)
	}
	return nil
}

func (n *neighbours) Status() ClusterStatus {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.status
}

func (n *neighbours) Keys() Keys { return n.peer }
