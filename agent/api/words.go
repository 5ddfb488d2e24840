package api

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"unicode/utf8"

	"github.com/paramedic-ha/paramedic/agent/ledger"
	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/gossip"
)

// What somebody says of an alarm, at any agent: its home is told.

const maxComment = 1000 // characters

// remark checks what somebody wrote.
func remark(field, text string) error {
	switch {
	case !utf8.ValidString(text):
		return badRequest("%s: it is not UTF-8", field)
	case utf8.RuneCountInString(text) > maxComment:
		return badRequest("%s: it has more than %d characters: shorten it", field, maxComment)
	}
	return nil
}

// say carries out a word of the caller about the alarm of the request, and answers with the alarm as it is then.
func (s *Server) say(w http.ResponseWriter, r *http.Request, kind gossip.Kind, text string) {
	who := identityOf(r.Context())
	word := ledger.Saying{Kind: kind, AlarmID: r.PathValue("id"), By: who.name, Text: text, At: s.now()}
	alarm, err := s.backend.Say(r.Context(), word)
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	callOf(r.Context()).note("resource", string(alarm.Key.Resource))
	s.answer(w, r, http.StatusOK, s.ages().alarm(alarm, who.view(alarm)))
}

func (s *Server) postAck(w http.ResponseWriter, r *http.Request) {
	var body AckRequest
	err := readBody(w, r, &body)
	if err == nil {
		err = remark("comment", body.Comment)
	}
	if err == nil {
		err = s.mayAck(r.Context(), identityOf(r.Context()), r.PathValue("id"))
	}
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	s.say(w, r, gossip.KindAck, body.Comment)
}

func (s *Server) postComment(w http.ResponseWriter, r *http.Request) {
	var body CommentRequest
	err := readBody(w, r, &body)
	if err == nil {
		err = remark("text", body.Text)
	}
	if err == nil && strings.TrimSpace(body.Text) == "" {
		err = badRequest("text: it is empty: write what is to be known")
	}
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	s.say(w, r, gossip.KindComment, body.Text)
}

func (s *Server) postClear(w http.ResponseWriter, r *http.Request) {
	var body ClearRequest
	err := readBody(w, r, &body)
	if err == nil {
		err = remark("comment", body.Comment)
	}
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	if spoken := s.spoken(r.PathValue("id")); spoken != nil {
		s.clearSpoken(w, r, spoken, body.Comment)
		return
	}
	s.say(w, r, gossip.KindClear, body.Comment)
}

// spoken is the alarm of this id, if it is one that peers have raised because a host can't; else nil.
func (s *Server) spoken(id string) *correlate.Alarm {
	if c := s.backend.Cluster(); c != nil {
		for _, a := range c.Alarms() {
			if a.ID == id && a.First.Term%2 == 1 {
				return a
			}
		}
	}
	return nil
}

// clearSpoken ends what peers say of a host: to say that it is over is to say that the host will not come back.
func (s *Server) clearSpoken(w http.ResponseWriter, r *http.Request, a *correlate.Alarm, comment string) {
	host := a.Key.Host()
	if host == "" {
		s.refuse(w, r, &refusal{
			http.StatusConflict, "spoken", "the alarm speaks of others",
			fmt.Sprintf("%s is said of many hosts at once, and ends when they are back: clear the alarms of those that will not come back, which forgets them", a.Key.Resource),
		})
		return
	}
	if err := s.backend.Cluster().Forget(r.Context(), host); err != nil {
		if errors.Is(err, gossip.ErrUnknownHost) {
			err = unknownHost(host)
		}
		s.refuse(w, r, err)
		return
	}
	callOf(r.Context()).note("forgotten", host)
	word := ledger.Saying{Kind: gossip.KindClear, AlarmID: a.ID, By: identityOf(r.Context()).name, Text: comment, At: s.now()}
	s.answer(w, r, http.StatusOK, s.ages().alarm(a, word.Show(a)))
}
