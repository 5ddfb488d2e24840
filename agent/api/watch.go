package api

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/paramedic-ha/paramedic/correlate"
)

// getWatch streams changes as server-sent events until the client, or the server, goes. A client that does not take
// an event in streamWrite is cut. One that comes back with the id of the last event that it has seen misses nothing: it gets what came
// behind it, or, when that is not held, the present truth.
func (s *Server) getWatch(w http.ResponseWriter, r *http.Request) {
	who := identityOf(r.Context())
	q := newQuery(r.URL.RawQuery, append([]string{"since", "snapshot", "state"}, who.selectionParameters()...)...)
	since := r.Header.Get("Last-Event-ID") // a client that reconnects by itself keeps the URL: the header is newer
	if since == "" {
		since = q.text("since")
	}
	lens := lens{state: q.choice("state", stateAll, stateStanding, stateCleared), selection: readSelection(q, who)}
	snapshot := q.choice("snapshot", "false", "true") == "true"
	from, err := parseEventID(since)
	if err = errors.Join(q.err, err); err != nil {
		s.refuse(w, r, err)
		return
	}
	select {
	case s.watchers <- struct{}{}:
		defer func() { <-s.watchers }()
	default:
		w.Header().Set("Retry-After", "5")
		s.refuse(w, r, &refusal{
			http.StatusServiceUnavailable, "too-many", "too many streams",
			fmt.Sprintf("%d streams are open, which is the most: end one, or try again", cap(s.watchers)),
		})
		return
	}
	end, err := s.limits.stream(callOf(r.Context()))
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	defer end()
	stream := &eventStream{control: http.NewResponseController(w), w: w, within: s.streamWrite, now: s.now, node: who.alias(s.node)}
	if stream.term, err = s.term(r.Context()); err != nil {
		s.refuse(w, r, err)
		return
	}
	// The server's read deadline would end the request's context while it runs.
	if err := stream.control.SetReadDeadline(time.Time{}); err != nil {
		s.refuse(w, r, fmt.Errorf("open the stream: %w", err))
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.WriteHeader(http.StatusOK)
	f := &follower{s: s, eventStream: stream, lens: lens}
	if err := f.follow(r.Context(), from, snapshot); err != nil {
		s.log.Debug("watch ended", "error", err)
	}
}

// term tells runs apart: it is another one in each, in those of a former life of this host, too.
func (s *Server) term(ctx context.Context) (term uint64, err error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	if err := s.backend.Query(ctx, func(e *correlate.Engine) { term = e.Term() }); err != nil {
		return 0, fmt.Errorf("ask the engine for its term: %w", err)
	}
	return term, nil
}

// lens is what a client wants to see of the changes.
type lens struct {
	selection
	state string
}

// What becomes of a change in a stream: it is an alarm event, a gone event, or nothing.
const (
	eventAlarm = "alarm"
	eventGone  = "gone"
	eventNone  = ""
)

// show says what a change is for the client. before is the form that it has been shown last, as far as it is known: what was
// shown is followed to its end, or to where it leaves the selection, whatever the selection says of that.
func (l lens) show(c *SeqChange, before *correlate.Alarm) string {
	a := c.Change.Alarm
	shown := before != nil && l.state != stateCleared && l.match(before, before.Severity)
	switch {
	case c.What == Vanished && shown:
		return eventGone
	case c.What == Vanished:
		return eventNone
	case !a.Standing() && before == nil: // how bad it was is not known here
		if l.state != stateStanding && l.match(a, correlate.SeverityIndeterminate) {
			return eventAlarm
		}
	case !a.Standing():
		if l.match(before, before.Severity) {
			return eventAlarm
		}
	case shown && !l.who.news(before, a):
		return eventNone
	case l.state != stateCleared && l.match(a, a.Severity):
		return eventAlarm
	case shown:
		return eventGone
	}
	return eventNone
}

// follower writes one stream.
type follower struct {
	*eventStream
	s    *Server
	lens lens
	// given is the present truth that the client was given last, each alarm until it has changed: of the changes behind it some may
	// be part of it.
	given map[string]*correlate.Alarm
}

// Why a client is given the present truth.
const (
	resetAsked  = "asked for"
	resetBehind = "changes that this client has not seen are no longer held"
	resetOther  = "the id is of another run of the agent, or of another agent"
)

// follow writes what comes after an event; the zero id is "from now on".
func (f *follower) follow(ctx context.Context, from eventID, snapshot bool) error {
	reset := ""
	at, last := from.seq, from.at
	switch {
	case from == eventID{} && snapshot:
		reset = resetAsked
	case from == eventID{}: // from now on
		at, last = f.s.backend.Newest(), f.now().Unix()
	case from.term != f.term || from.node != "" && from.node != f.node:
		reset = resetOther
	}
	if err := f.comment("watching"); err != nil {
		return err
	}
	if reset == "" {
		if err := f.place(at); err != nil {
			return err
		}
	}
	beat := time.NewTicker(f.s.heartbeat)
	defer beat.Stop()
	for {
		if reset != "" {
			var err error
			if at, err = f.reset(ctx, reset, last); err != nil {
				return err
			}
			last = f.now().Unix()
		}
		changes, next, lost := f.s.backend.Changes(at)
		if lost {
			reset = resetBehind
			continue
		}
		reset = ""
		if err := f.tell(changes); err != nil {
			return err
		}
		if n := len(changes); n > 0 {
			at, last = changes[n-1].Seq, f.now().Unix()
			continue // there may be more by now
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-f.s.closing:
			return nil
		case <-beat.C: // where it is by now, though there was nothing to see
			if err := f.comment("still here"); err != nil {
				return err
			}
			if at != f.placed {
				if err := f.place(at); err != nil {
					return err
				}
			}
		case <-next:
		}
	}
}

// tell writes those of the changes that the client wants to see and has not seen.
func (f *follower) tell(changes []SeqChange) error {
	if len(changes) == 0 {
		return nil
	}
	ages := f.s.ages()
	for i := range changes {
		c := &changes[i]
		before := c.Was
		if given := f.given[c.Change.Alarm.ID]; given != nil {
			if c.What != Vanished && !news(c, given) {
				continue
			}
			delete(f.given, given.ID)
			before = given
		}
		var err error
		switch a := c.Change.Alarm; f.lens.show(c, before) {
		case eventAlarm:
			err = f.event(eventAlarm, c.Seq, WatchEvent{Transition: c.What, Alarm: ages.alarm(a, f.lens.who.view(a))})
		case eventGone:
			err = f.event(eventGone, c.Seq, WatchGone{ID: a.ID, Revision: a.Revision.String()})
		}
		if err != nil {
			return err
		}
	}
	return f.flush()
}

// news reports whether a change says more than what was given.
func news(c *SeqChange, given *correlate.Alarm) bool {
	a := c.Change.Alarm
	switch a.Revision.Compare(given.Revision) {
	case -1:
		return false
	case 0:
		return a.Noted(given) != ""
	}
	return true
}

const (
	// clocksApart is how much earlier than the client's last event an alarm may seem to have ended that it does not know to have ended.
	clocksApart = 2 * time.Minute
	// maxCleared bounds how many alarms a client is told by word that they have ended; the others are those that it had and that are not
	// among the standing ones.
	maxCleared = 1000
)

// reset gives the client the present truth: what has ended since its last event, if there was one, and all that stands. The
// number is that of the last change before it.
func (f *follower) reset(ctx context.Context, why string, last int64) (at uint64, err error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	at = f.s.backend.Newest() // before looking: what comes meanwhile is told again, unless it is part of what is given
	alarms, _, err := f.s.standing(ctx)
	if err != nil {
		return 0, err
	}
	ended := f.s.backend.History().Ended()
	alarms = slices.DeleteFunc(alarms, func(a *correlate.Alarm) bool {
		return ended(a.ID) || f.lens.state == stateCleared || !f.lens.match(a, a.Severity)
	})
	slices.SortFunc(alarms, func(a, b *correlate.Alarm) int { return placeOf(b).Compare(placeOf(a)) }) // the oldest first
	standing := len(alarms)
	if last != 0 {
		since := time.Unix(last, 0).Add(-clocksApart)
		cleared, err := f.s.backend.History().ClearedSince(ctx, since, maxCleared, f.lens.matchEntry)
		if err != nil { // the client sees at the end what does not stand any more
			f.s.log.Warn("a stream is not told what has ended", "error", err)
		}
		slices.Reverse(cleared)
		alarms = append(cleared, alarms...)
	}
	shown, err := f.s.present(ctx, alarms)
	if err != nil {
		return 0, err
	}
	if err := f.event("reset", 0, WatchReset{Reason: why}); err != nil {
		return 0, err
	}
	f.given = make(map[string]*correlate.Alarm, len(alarms))
	for i, a := range alarms {
		f.given[a.ID] = a
		if err := f.event(eventAlarm, 0, WatchEvent{Transition: string(a.Last), Snapshot: true, Alarm: shown[i]}); err != nil {
			return 0, err
		}
	}
	return at, errors.Join(f.event("synced", at, WatchSynced{Standing: standing}), f.flush())
}

// eventStream writes the event stream format of the HTML standard, 9.2.
type eventStream struct {
	w       http.ResponseWriter
	control *http.ResponseController
	now     func() time.Time
	node    string
	term    uint64
	within  time.Duration // for the client to take what is flushed
	waits   bytes.Buffer
	placed  uint64 // the number of the last id
}

const maxUnflushed = 64 << 10 // bytes

// event writes one. Without a number it gets no id, so that a client that breaks off there comes back to where it was before.
func (e *eventStream) event(name string, seq uint64, data any) error {
	text, err := json.Marshal(data)
	if err != nil {
		return fmt.Errorf("encode event %d: %w", seq, err)
	}
	fmt.Fprintf(&e.waits, "event: %s\n", name)
	if seq != 0 || name == "synced" {
		fmt.Fprintf(&e.waits, "id: %s\n", e.id(seq))
		e.placed = seq
	}
	fmt.Fprintf(&e.waits, "data: %s\n\n", text)
	if e.waits.Len() < maxUnflushed {
		return nil
	}
	return e.flush()
}

// place gives an id and no event (HTML standard, 9.2.6): a client that saw nothing yet can come back to here.
func (e *eventStream) place(seq uint64) error {
	e.placed = seq
	fmt.Fprintf(&e.waits, "id: %s\n\n", e.id(seq))
	return e.flush()
}

func (e *eventStream) id(seq uint64) eventID { return eventID{e.term, seq, e.now().Unix(), e.node} }

func (e *eventStream) comment(text string) error {
	fmt.Fprintf(&e.waits, ": %s\n\n", text)
	return e.flush()
}

func (e *eventStream) flush() error {
	if e.waits.Len() == 0 {
		return nil
	}
	if err := e.control.SetWriteDeadline(time.Now().Add(e.within)); err != nil {
		return fmt.Errorf("set the stream's deadline: %w", err)
	}
	_, err := e.w.Write(e.waits.Bytes())
	e.waits.Reset()
	if err = cmp.Or(err, e.control.Flush()); err != nil {
		return fmt.Errorf("write to the stream: %w", err)
	}
	return nil
}

// eventID names an event of a stream: the term of the run, its number there, when it was sent, and the agent. With the time
// another agent, or another run, can say what has ended since.
type eventID struct {
	term, seq uint64
	at        int64  // seconds since 1970; zero: not known
	node      string // may be empty: this one
}

func (id eventID) String() string {
	if id.at == 0 {
		return fmt.Sprintf("%d.%d@%s", id.term, id.seq, id.node)
	}
	return fmt.Sprintf("%d.%d.%d@%s", id.term, id.seq, id.at, id.node)
}

// parseEventID reads what String writes, with or without the time and the agent; empty is the zero id.
func parseEventID(text string) (eventID, error) {
	if text == "" {
		return eventID{}, nil
	}
	numbers, node, named := strings.Cut(text, "@")
	var id eventID
	parts := strings.Split(numbers, ".")
	ok := len(parts) == 2 || len(parts) == 3
	if ok {
		var errs [3]error
		id.term, errs[0] = strconv.ParseUint(parts[0], 10, 64)
		id.seq, errs[1] = strconv.ParseUint(parts[1], 10, 64)
		if len(parts) == 3 {
			id.at, errs[2] = strconv.ParseInt(parts[2], 10, 64)
		}
		ok = errors.Join(errs[:]...) == nil && id.term != 0 && id.at >= 0
	}
	if !ok || named && node == "" {
		return eventID{}, badRequest("since or Last-Event-ID %q: want the id of an event of this stream, for instance 2.17.1796000000@cmp-1", text)
	}
	id.node = node
	return id, nil
}
