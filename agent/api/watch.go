package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/paramedic-ha/paramedic/correlate"
)

// getWatch streams changes as server-sent events until the client, or the server, goes. A client that does not take
// an event in streamWrite is cut; it comes back with Last-Event-ID and misses nothing that the feed still holds.
func (s *Server) getWatch(w http.ResponseWriter, r *http.Request) {
	q := newQuery(r.URL.RawQuery, "since")
	since := r.Header.Get("Last-Event-ID") // a client that reconnects by itself keeps the URL: the header is newer
	if since == "" {
		since = q.text("since")
	}
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
	stream := &eventStream{control: http.NewResponseController(w), w: w, within: s.streamWrite, node: s.node}
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
	if err := s.follow(r, stream, from); err != nil {
		s.log.Debug("watch ended", "err", err)
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

// follow writes what comes after an event; the zero id is "from now on".
func (s *Server) follow(r *http.Request, stream *eventStream, from eventID) error {
	after := from.seq
	var changes []SeqChange
	var next <-chan struct{}
	var lost bool
	switch {
	case from == eventID{}: // from now on
		changes, next, _ = s.backend.Changes(0)
		if n := len(changes); n > 0 {
			after = changes[n-1].Seq
		}
		changes = nil
	case from == stream.id(after), from == eventID{term: stream.term, seq: after}:
		changes, next, lost = s.backend.Changes(after)
	default: // a number of another run, or of another agent, which counts by itself: all that this one holds is new
		changes, next, _ = s.backend.Changes(0)
		lost, after = true, 0
	}
	if lost {
		if err := stream.comment("watching"); err != nil {
			return err
		}
	} else if err := stream.place(after); err != nil {
		return err
	}
	beat := time.NewTicker(s.heartbeat)
	defer beat.Stop()
	for {
		if lost {
			if err := stream.lost(); err != nil {
				return err
			}
		}
		var ages ages
		if len(changes) > 0 {
			ages = s.ages()
		}
		for _, c := range changes {
			if err := stream.alarm(c, ages); err != nil {
				return err
			}
			after = c.Seq
		}
		select {
		case <-r.Context().Done():
			return r.Context().Err()
		case <-s.closing:
			return nil
		case <-beat.C:
			if err := stream.comment("still here"); err != nil {
				return err
			}
			changes, lost = nil, false
		case <-next:
			changes, next, lost = s.backend.Changes(after)
		}
	}
}

// eventStream writes the event stream format of the HTML standard, 9.2.
type eventStream struct {
	w       http.ResponseWriter
	control *http.ResponseController
	node    string
	term    uint64
	within  time.Duration // for the client to take an event
}

func (e *eventStream) alarm(c SeqChange, ages ages) error {
	data, err := json.Marshal(WatchEvent{Transition: string(c.Change.Alarm.Last), Alarm: ages.alarm(c.Change.Alarm)})
	if err != nil {
		return fmt.Errorf("encode change %d: %w", c.Seq, err)
	}
	return e.write(fmt.Sprintf("event: alarm\nid: %s\ndata: %s\n\n", e.id(c.Seq), data))
}

func (e *eventStream) lost() error {
	return e.write("event: lost\ndata: {\"remedy\":\"changes were lost: read /v1/alarms, then go on with this stream\"}\n\n")
}

// place gives an id and no event (HTML standard, 9.2.6): a client that saw nothing yet can come back to here.
func (e *eventStream) place(seq uint64) error {
	return e.write(fmt.Sprintf(": watching\nid: %s\n\n", e.id(seq)))
}

func (e *eventStream) id(seq uint64) eventID { return eventID{e.term, seq, e.node} }

func (e *eventStream) comment(text string) error { return e.write(": " + text + "\n\n") }

func (e *eventStream) write(text string) error {
	if err := e.control.SetWriteDeadline(time.Now().Add(e.within)); err != nil {
		return fmt.Errorf("set the stream's deadline: %w", err)
	}
	if _, err := e.w.Write([]byte(text)); err != nil {
		return fmt.Errorf("write to the stream: %w", err)
	}
	if err := e.control.Flush(); err != nil {
		return fmt.Errorf("write to the stream: %w", err)
	}
	return nil
}

// eventID names an event of a stream: the term of the run, its number there, and the agent. A client that comes back to
// another agent is told that it may have missed something; without the agent it is taken for one of this agent.
type eventID struct {
	term, seq uint64
	node      string // may be empty
}

func (id eventID) String() string { return fmt.Sprintf("%d.%d@%s", id.term, id.seq, id.node) }

// parseEventID reads what String writes, with or without the agent; empty is the zero id.
func parseEventID(text string) (eventID, error) {
	if text == "" {
		return eventID{}, nil
	}
	number, node, named := strings.Cut(text, "@")
	t, n, ok := strings.Cut(number, ".")
	term, errTerm := strconv.ParseUint(t, 10, 64)
	seq, errSeq := strconv.ParseUint(n, 10, 64)
	if !ok || errTerm != nil || errSeq != nil || term == 0 || named && node == "" {
		return eventID{}, badRequest("since or Last-Event-ID %q: want the id of an event of this stream, for instance 2.17@cmp-1", text)
	}
	return eventID{term, seq, node}, nil
}
