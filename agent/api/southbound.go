package api

import (
	"cmp"
	"errors"
	"net/http"
	"strconv"

	"github.com/paramedic-ha/paramedic/agent/southbound"
)

// limitedFor is after how many seconds a monitor that sends too much may come again.
const limitedFor = 5

// postEvents takes the events of other monitors.
func (s *Server) postEvents(w http.ResponseWriter, r *http.Request) {
	body, err := readJSON(w, r)
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	items, err := southbound.Decode(body)
	switch {
	case errors.Is(err, southbound.ErrTooMany):
		err = &refusal{http.StatusRequestEntityTooLarge, "too-large", "the body is too large", err.Error()}
	case err != nil:
		err = badRequest("%v", err)
	case s.backend.Starting():
		err = errStarting
	}
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	who := identityOf(r.Context())
	caller := who.name
	if who.admin() { // he may well pass on what several monitors say
		caller = ""
	}
	verdicts, err := s.backend.HandIn(r.Context(), caller, items)
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	out := Verdicts{Verdicts: make([]Verdict, len(verdicts))}
	refused, limited, accepted, why := 0, 0, 0, ""
	for i, v := range verdicts {
		out.Verdicts[i] = fromVerdict(&items[i], v)
		if v.Word == southbound.Refused {
			refused++
			why = cmp.Or(why, v.Text)
		}
		if v.Word == southbound.Accepted {
			accepted++
		}
		if v.Limited {
			limited++
		}
	}
	call := callOf(r.Context())
	call.object, call.silent = items[0].Monitor, accepted == 0 // what was said before changes nothing
	call.note("accepted", strconv.Itoa(accepted))
	if refused > 0 && s.complain.Allow() {
		s.log.Warn("events of another monitor were refused", "monitor", items[0].Monitor, "refused", refused, "of", len(items), "reason", why, "by", call.identity.name)
	}
	switch {
	case limited == len(verdicts):
		w.Header().Set("Retry-After", strconv.Itoa(limitedFor))
		s.refuse(w, r, &refusal{http.StatusTooManyRequests, "too-many-events", "too many events", why})
	case refused > 0:
		s.answer(w, r, http.StatusMultiStatus, out)
	default:
		s.answer(w, r, http.StatusAccepted, out)
	}
}

func fromVerdict(i *southbound.Item, v southbound.Verdict) Verdict {
	return Verdict{
		Verdict: string(v.Word), Text: v.Text, Type: i.Type, Monitor: i.Monitor, MonitorEventID: i.EventID,
		Resource: string(v.Resource), Condition: string(v.Condition), Alarm: v.Alarm,
	}
}
