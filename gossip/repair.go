package gossip

import (
	"fmt"
	"time"
)

// The repair. Each second a replica sends its digest to one random peer: the cost of being in sync. The peer, when its own
// differs, answers with its 32 groups, gets the 32 buckets of each group that differs, answers with what it has in the
// buckets that differ (key hashes and versions), gets the records that are newer there and a wish for those that are older,
// and grants it. No state is kept between the messages: any may be lost, doubled or late.
//
// What one message can call forth is bounded; the rest of a large difference follows in the next exchanges.
const (
	chunkBytes  = 60 << 10 // of a message of records or a list, when no single record is larger
	listBytes   = 512 << 10
	answerBytes = 1 << 20
	wantKeys    = 8192

	// What one peer may be told a second, and at once when it was quiet before: all that 30 000 domains are.
	peerRate  = 4 << 20
	peerBurst = 16 << 20
)

// Digest is the message with which an exchange begins, for one random peer.
func (r *Replica) Digest(now time.Time) []byte {
	return digestMessage{root: r.index.root, clock: nanos(now), count: uint64(r.index.n)}.encode()
}

// Root is the hash over all records: equal in replicas that hold the same.
func (r *Replica) Root() [2]uint64 { return r.index.root }

// Handle takes one message of a peer, which is not this host. The message must not be changed afterwards while the result is in use. An error names
// what could not be read; nothing was changed then, and it is counted under the sender's name.
func (r *Replica) Handle(now time.Time, from string, message []byte) (Result, error) {
	m, err := decode(message)
	if err != nil {
		r.countRejection(now, from, Undecodable)
		return Result{}, fmt.Errorf("from %q: %w", from, err)
	}
	r.Heard(now, from)
	var res Result
	p := r.peer(from)
	if p == nil {
		p = &r.crowd
	}
	if MessageType(message[1]) != TypeRecords && !p.maySpend(now) {
		r.countRejection(now, from, Excess)
		return res, nil
	}
	switch m := m.(type) {
	case recordsMessage:
		res = r.Merge(now, m.records)
		res.Repair = m.repair
	case digestMessage:
		r.measure(p, now, m.clock)
		r.handleDigest(m, &res)
	case groupsMessage:
		r.handleGroups(m, &res)
	case bucketsMessage:
		r.handleBuckets(m, &res)
	case listMessage:
		r.handleList(m, &res)
	case wantMessage:
		r.handleWant(m, &res)
	}
	for _, reply := range res.Replies {
		p.allowance -= len(reply)
	}
	return res, nil
}

// maySpend says whether a peer may be told anything now.
func (p *peerState) maySpend(now time.Time) bool {
	if p.refilled.IsZero() || now.Before(p.refilled) { // new, or our clock was set
		p.allowance, p.refilled = peerBurst, now
	}
	if more := int(min(now.Sub(p.refilled), time.Minute).Seconds() * peerRate); more > 0 {
		p.allowance, p.refilled = min(p.allowance+more, peerBurst), now
	}
	return p.allowance > 0
}

func (r *Replica) handleDigest(m digestMessage, res *Result) {
	if m.root == r.index.root {
		res.InSync = true
		return
	}
	res.Replies = append(res.Replies, groupsMessage{r.index.groups}.encode())
}

func (r *Replica) handleGroups(m groupsMessage, res *Result) {
	var b bucketsMessage
	for g, h := range m.hashes {
		if h != r.index.groups[g] {
			b.present |= 1 << g
			b.hashes = append(b.hashes, r.index.sums[g*fanout:(g+1)*fanout]...)
		}
	}
	if b.present != 0 {
		res.Replies = append(res.Replies, b.encode())
	}
}

func (r *Replica) handleBuckets(m bucketsMessage, res *Result) {
	var differ []uint32
	hashes := m.hashes
	for g := range uint32(fanout) {
		if m.present&(1<<g) == 0 {
			continue
		}
		for i := range uint32(fanout) {
			if b := g*fanout + i; hashes[i] != r.index.sums[b] {
				differ = append(differ, b)
			}
		}
		hashes = hashes[fanout:]
	}
	if len(differ) == 0 {
		return
	}
	r.turn++
	start := int(r.turn * 7 % uint32(len(differ)))
	var list listMessage
	size, total := 0, 0
	flush := func() {
		if len(list.buckets) > 0 {
			res.Replies = append(res.Replies, list.encode())
			list, size = listMessage{}, 0
		}
	}
	for i := range differ {
		b := differ[(start+i)%len(differ)]
		l := bucketList{bucket: b, items: make([]item, 0, len(r.index.buckets[b]))}
		bytes := 8
		for _, e := range r.index.buckets[b] {
			it := e.item()
			l.items = append(l.items, it)
			bytes += 12 + uvarintLen(it.a) + uvarintLen(it.b)
		}
		if size > 0 && size+bytes > chunkBytes {
			flush()
		}
		if total > 0 && total+bytes > listBytes {
			break
		}
		list.buckets = append(list.buckets, l)
		size += bytes
		total += bytes
	}
	flush()
}

func (r *Replica) handleList(m listMessage, res *Result) {
	var send []*entry
	var want []uint64
	for _, l := range m.buckets {
		theirs := make(map[uint64]item, len(l.items))
		for _, it := range l.items {
			theirs[it.key] = it
		}
		for _, e := range r.index.buckets[l.bucket] {
			it, ok := theirs[e.key]
			mine := e.item()
			if !ok || it != mine && (it.a < mine.a || it.a == mine.a && it.b <= mine.b) {
				send = append(send, e)
			}
			if ok && (it == mine || it.a < mine.a || it.a == mine.a && it.b < mine.b) {
				delete(theirs, e.key) // ours is the one to keep; of two under one version both travel
			}
		}
		for _, it := range l.items {
			if _, ok := theirs[it.key]; ok && len(want) < wantKeys {
				want = append(want, it.key)
				delete(theirs, it.key)
			}
		}
	}
	r.answer(send, res)
	if len(want) > 0 {
		res.Replies = append(res.Replies, wantMessage{want}.encode())
	}
}

func (r *Replica) handleWant(m wantMessage, res *Result) {
	var send []*entry
	for i, k := range m.keys {
		if i == wantKeys {
			break
		}
		if e := r.index.find(k); e != nil {
			send = append(send, e)
		}
	}
	r.answer(send, res)
}

// answer sends entries up to the bound, floors and forgotten hosts last: what they void has mostly been restated.
func (r *Replica) answer(entries []*entry, res *Result) {
	var records, last []Record
	size := 0
	for _, e := range entries {
		bytes := recordLen(&e.Record)
		if size > 0 && size+bytes > answerBytes {
			break
		}
		size += bytes
		if e.Kind == KindFloor || e.Kind == KindForget {
			last = append(last, e.Record)
			continue
		}
		records = append(records, e.Record)
	}
	res.Replies = append(res.Replies, encodeRecords(append(records, last...), chunkBytes, flagRepair)...)
}
