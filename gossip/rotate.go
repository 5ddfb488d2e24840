package gossip

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// A rotation, for the whole cluster from any one host: AddKey, then UseKey of its fingerprint, then RemoveKey of the old
// one's, with AwaitKeys after each. UseKey and RemoveKey refuse, unless forced, while any host of the roster might not
// have taken the step before: so at no moment can two hosts not talk. A host that is away misses nothing: a peer tells
// it when it is back, as long as one key of its own is still in use or another's.
//
// The steps are an agreement (keyring.go) that each host takes, keeps on disk and answers for by its mark in the
// metadata. It goes to all members over connections; who shows an older mark is told again.

// KeyStatus is what one host knows of the keys of the cluster.
type KeyStatus struct {
	Keys    []string // fingerprints of those here, the one in use first; none: the gossip is not encrypted
	Changes uint64   // steps that AddKey, UseKey and RemoveKey took in the cluster; zero: each host goes by its key file
	Behind  []string // members that have not yet taken the last step, by name
	Away    []string // hosts of the roster that are not members: they can't have taken it
}

// KeyStatus is the state of this moment.
func (p *Peer) KeyStatus() KeyStatus {
	p.keyLock.Lock()
	own := p.agreed
	p.keyLock.Unlock()
	return p.keyStatus(own)
}

func (p *Peer) keyStatus(own agreement) KeyStatus {
	s := KeyStatus{Keys: p.Keys(), Changes: own.changes}
	if p.ring == nil {
		return s
	}
	at := own.mark()
	for _, m := range p.members.list() {
		if m.Node != p.cfg.Node && m.keys != at {
			s.Behind = append(s.Behind, m.Node)
		}
	}
	for _, h := range p.Hosts() {
		if !h.Alive && h.Node != p.cfg.Node {
			s.Away = append(s.Away, h.Node)
		}
	}
	return s
}

// AwaitKeys returns when all members have taken the last step, or with an error when ctx ends. It does not wait for
// hosts that are away.
func (p *Peer) AwaitKeys(ctx context.Context) (KeyStatus, error) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		s := p.KeyStatus()
		if len(s.Behind) == 0 {
			return s, nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return s, fmt.Errorf("wait for all hosts to take the gossip keys: %s did not: %w", names(s.Behind), ctx.Err())
		}
	}
}

// AddKey makes what is encrypted with the key readable at every host of the cluster. The change is on disk (Config.Dir)
// here when it returns nil, and on its way to the members. A key that is there already is no error.
func (p *Peer) AddKey(key CipherKey) error {
	return p.changeKeys("add a gossip key", func(a *agreement) (bool, error) {
		switch {
		case hasKey(a.keys, key):
			return a.changes == 0, nil // from our key file: the others may not have it
		case len(a.keys) >= maxKeys:
			return false, fmt.Errorf("there are %d already: remove old ones first", maxKeys)
		}
		a.keys = append(a.keys, bytes.Clone(key))
		a.removed = slices.DeleteFunc(a.removed, func(removed string) bool { return removed == key.String() })
		return true, nil
	})
}

// RawKeys are the keys of this moment, the one in use first; none without encryption. They are the callee's, and secret.
func (p *Peer) RawKeys() [][]byte {
	if p.ring == nil {
		return nil
	}
	var keys [][]byte
	for _, k := range p.ring.GetKeys() {
		keys = append(keys, bytes.Clone(k))
	}
	return keys
}

// UseKey makes every host encrypt with the key of this fingerprint. It refuses while a host may not have the key, unless
// forced: a host that was away then can't come back by itself. A key that is in use already is no error.
func (p *Peer) UseKey(fingerprint string, force bool) error {
	return p.changeKeys("use a gossip key", func(a *agreement) (bool, error) {
		at := a.find(fingerprint)
		switch {
		case at < 0:
			return false, fmt.Errorf("key %s is not on the ring: add it first", fingerprint)
		case at == 0 && a.changes > 0:
			return false, nil
		}
		if err := p.level(*a, force); err != nil {
			return false, err
		}
		key := a.keys[at]
		a.keys = slices.Insert(slices.Delete(a.keys, at, at+1), 0, key)
		return true, nil
	})
}

// RemoveKey makes every host forget the key of this fingerprint, which must not be the one in use. It refuses while a
// host may still encrypt with it, unless forced. What still comes encrypted with it is then refused.
func (p *Peer) RemoveKey(fingerprint string, force bool) error {
	return p.changeKeys("remove a gossip key", func(a *agreement) (bool, error) {
		at := a.find(fingerprint)
		switch {
		case at < 0:
			return false, fmt.Errorf("key %s is not on the ring", fingerprint)
		case at == 0:
			return false, fmt.Errorf("key %s is the one in use: use another first", fingerprint)
		}
		if err := p.level(*a, force); err != nil {
			return false, err
		}
		a.keys = slices.Delete(a.keys, at, at+1)
		a.removed = slices.Insert(a.removed, 0, fingerprint)
		a.removed = a.removed[:min(len(a.removed), maxRemoved)]
		return true, nil
	})
}

// ErrKeysNotLevel says that a step of a rotation was refused because not every host has taken the one before. Forcing
// it leaves those hosts out until they are given the key in use in their key file.
var ErrKeysNotLevel = errors.New("not every host of the cluster has taken the last change of the keys")

// level reports why the next step would leave a host behind. The caller holds keyLock.
func (p *Peer) level(own agreement, force bool) error {
	if force {
		return nil
	}
	if own.changes == 0 {
		return fmt.Errorf("%w: each goes by its key file; add the key, then all have it", ErrKeysNotLevel)
	}
	s := p.keyStatus(own)
	var why []string
	if len(s.Behind) > 0 {
		why = append(why, names(s.Behind)+" will within seconds: try again")
	}
	if len(s.Away) > 0 {
		why = append(why, names(s.Away)+" not there: wait for it, forget it, or force the change; then put the key in use into its cluster.key_file as the first line before it starts")
	}
	if len(why) == 0 {
		return nil
	}
	return fmt.Errorf("%w: %s", ErrKeysNotLevel, strings.Join(why, "; "))
}

func names(hosts []string) string {
	const enough = 10
	if len(hosts) > enough {
		return fmt.Sprintf("%s and %d more", strings.Join(hosts[:enough], ", "), len(hosts)-enough)
	}
	return strings.Join(hosts, ", ")
}

// SetKeys takes a key file that was changed, in an order that leaves no gap here; the file as it was is no change. Once
// the keys of the cluster were changed by AddKey and its like, a file that says otherwise is refused: it would be
// overruled by the peers.
func (p *Peer) SetKeys(keys []CipherKey) error {
	const doing = "take the gossip keys of the changed cluster.key_file"
	if len(keys) == 0 || len(keys) > maxKeys {
		return fmt.Errorf("%s: %d given, not 1 to %d", doing, len(keys), maxKeys)
	}
	if p.ring == nil {
		return fmt.Errorf("%s: %w", doing, errNotEncrypted)
	}
	p.keyLock.Lock()
	defer p.keyLock.Unlock()
	if origin(keys) == origin(p.file) {
		return nil
	}
	if p.agreed.changes > 0 {
		if !sameKeys(keys, p.agreed.keys) {
			return fmt.Errorf(`%s: the keys of this cluster were changed at run time, for all hosts; change them by "paramedic keys", and let the file say the same: %s`, doing, strings.Join(p.Keys(), ", "))
		}
		p.file = slices.Clone(keys)
		return p.saveKeys(doing)
	}
	for _, k := range keys {
		if err := p.ring.AddKey(bytes.Clone(k)); err != nil {
			return fmt.Errorf("%s: %w", doing, err)
		}
	}
	if err := p.ring.UseKey(keys[0]); err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	for _, old := range slices.Clone(p.ring.GetKeys()) {
		if !hasKey(keys, old) {
			if err := p.dropKey(old); err != nil {
				return fmt.Errorf("%s: %w", doing, err)
			}
		}
	}
	p.file = slices.Clone(keys)
	return nil
}

// Keys are the fingerprints of the keys here, the one in use first; none when the gossip is not encrypted.
func (p *Peer) Keys() []string {
	if p.ring == nil {
		return nil
	}
	var prints []string
	for _, k := range p.ring.GetKeys() {
		prints = append(prints, CipherKey(k).String())
	}
	return prints
}

var errNotEncrypted = errors.New("the gossip is not encrypted (cluster.insecure): set cluster.key_file and restart")

func (p *Peer) changeKeys(doing string, change func(*agreement) (bool, error)) error {
	if p.ring == nil {
		return fmt.Errorf("%s: %w", doing, errNotEncrypted)
	}
	p.keyLock.Lock()
	defer p.keyLock.Unlock()
	next := p.agreed.clone()
	if next.changes == 0 {
		for _, k := range p.ring.GetKeys() {
			next.keys = append(next.keys, CipherKey(bytes.Clone(k)))
		}
	}
	changed, err := change(&next)
	if err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	if !changed {
		return nil
	}
	next.changes++
	if err := next.check(); err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	if err := p.agree(next); err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	for _, to := range p.members.others(p.cfg.Node) {
		p.tellKeys(to.Name)
	}
	return p.saveKeys(doing)
}

// agree brings the ring to what was agreed on. Keys that nobody spoke of stay: a peer may still use them. The caller
// holds keyLock.
func (p *Peer) agree(a agreement) error {
	for _, k := range a.keys {
		if err := p.ring.AddKey(bytes.Clone(k)); err != nil {
			return err
		}
	}
	if err := p.ring.UseKey(a.keys[0]); err != nil {
		return err
	}
	for _, k := range slices.Clone(p.ring.GetKeys()) {
		if slices.Contains(a.removed, CipherKey(k).String()) {
			if err := p.dropKey(k); err != nil {
				return err
			}
		}
	}
	p.agreed = a
	p.say(func(i *identity) { i.Keys = a.mark() })
	return nil
}

func (p *Peer) saveKeys(doing string) error {
	if p.cfg.Dir == "" {
		return nil
	}
	if err := p.agreed.save(p.cfg.Dir, p.file); err != nil {
		return fmt.Errorf("%s: done, but a restart here will not know: %w", doing, err)
	}
	return nil
}

// forgetOldKeyring removes what a changed key file has put aside: it must not come to life again with the old file.
func (p *Peer) forgetOldKeyring() error {
	if p.cfg.Dir == "" || p.cfg.Keys.agreed.changes > 0 {
		return nil
	}
	if err := os.Remove(filepath.Join(p.cfg.Dir, keyringFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove the gossip keyring that the key file has put aside: %w", err)
	}
	return nil
}

// tellKeys sends a member what we agreed on. The caller holds keyLock.
func (p *Peer) tellKeys(node string) {
	to, ok := p.members.get(node)
	if !ok {
		return
	}
	p.links.send(to, envelope{keys: true, from: p.cfg.Node, id: p.counter.Add(1), payload: p.agreed.encode()}.encode())
}

// heardKeys takes what a peer agreed on, when it is newer, and tells it so: the announcement that all others learn it by
// may take its time on a busy host, and an operator waits.
func (p *Peer) heardKeys(from string, a agreement) {
	p.members.took(from, a.mark())
	p.keyLock.Lock()
	defer p.keyLock.Unlock()
	if p.ring == nil || !a.mark().newer(p.agreed.mark()) {
		return
	}
	err := p.agree(a)
	if err == nil {
		err = p.saveKeys("take the gossip keys of the cluster")
	}
	if err != nil {
		p.cfg.Log.Error("the gossip keys could not be changed as the peers did", "peer", from, "error", err)
		return
	}
	p.tellKeys(from)
	p.cfg.Log.Info("the gossip keys were changed at a peer", "peer", from, "changes", a.changes, "keys", p.Keys())
}

// remindOfKeys tells members that have not taken the last step. All of us may see them: together about three do it.
func (p *Peer) remindOfKeys() {
	p.keyLock.Lock()
	defer p.keyLock.Unlock()
	at := p.agreed.mark()
	if at.changes == 0 {
		return
	}
	members := p.members.list()
	for _, m := range members {
		if m.Node != p.cfg.Node && at.newer(m.keys) && rand.N(len(members)) < 3 {
			p.tellKeys(m.Node)
		}
	}
}

// turnKeys encrypts with another of our keys: while we are alone and our keys are refused, one of them may be the one
// that the cluster has changed to since we were away. What was agreed on comes with the first peer.
func (p *Peer) turnKeys() {
	p.keyLock.Lock()
	defer p.keyLock.Unlock()
	if keys := p.ring.GetKeys(); len(keys) > 1 {
		_ = p.ring.UseKey(keys[len(keys)-1]) // it is on the ring
	}
}

// dropKey removes a key that is not the primary. memberlist v0.7.0 removes in place, under the hands of those who are
// decrypting with the slice that GetKeys gave them, unless the key is the last: so it is made the last. Each step
// of that makes another key the primary for an instant, so the real one comes back at once.
func (p *Peer) dropKey(key []byte) error {
	primary := p.ring.GetPrimaryKey()
	keys := slices.Clone(p.ring.GetKeys())
	at := slices.IndexFunc(keys, func(k []byte) bool { return bytes.Equal(k, key) })
	for _, behind := range keys[at+1:] {
		if err := errors.Join(p.ring.UseKey(behind), p.ring.UseKey(primary)); err != nil {
			return err
		}
	}
	return p.ring.RemoveKey(key)
}
