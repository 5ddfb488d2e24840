package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/paramedic-ha/paramedic/gossip"
)

// keysWithin is how long an answer waits for all members to take a step of a rotation; who has not is named.
const keysWithin = 5 * time.Second

func (s *Server) getKeys(w http.ResponseWriter, r *http.Request) {
	if q := newQuery(r.URL.RawQuery); q.err != nil {
		s.refuse(w, r, q.err)
		return
	}
	keys, err := s.keys()
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	s.answer(w, r, http.StatusOK, fromKeys(keys.KeyStatus()))
}

// keys is nil with an error when there are none to manage.
func (s *Server) keys() (Keys, error) {
	c := s.backend.Cluster()
	if c == nil {
		return nil, &refusal{
			http.StatusConflict, "alone", "this host is alone",
			"it has no peers, and no key to talk to them with: set cluster.bind and cluster.key_file, and restart",
		}
	}
	keys := c.Keys()
	if len(keys.KeyStatus().Keys) == 0 {
		return nil, noKeys("what the hosts say to each other is not encrypted (cluster.insecure): set cluster.key_file on all hosts, and restart them")
	}
	return keys, nil
}

// noKeys refuses a change of the keys.
func noKeys(format string, args ...any) error {
	return &refusal{http.StatusConflict, "keys", "the keys don't allow it now", fmt.Sprintf(format, args...)}
}

func (s *Server) postKey(w http.ResponseWriter, r *http.Request) {
	var body KeyRequest
	if err := readBody(w, r, &body); err != nil {
		s.refuse(w, r, err)
		return
	}
	key, err := gossip.ParseKey(body.Key)
	if err != nil {
		s.refuse(w, r, badRequest("key: it is %v", err))
		return
	}
	s.changeKeys(w, r, "gossip key added", key.String(), func(_ context.Context, keys Keys, have []string) error {
		if !slices.Contains(have, key.String()) && len(have) >= maxKeys {
			return noKeys("there are %d keys already: remove old ones first", len(have))
		}
		return keys.AddKey(key)
	})
}

// maxKeys is what gossip holds at most.
const maxKeys = 8

func (s *Server) useKey(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	s.forceable(w, r, "gossip key in use", func(keys Keys, have []string, force bool) error {
		if !slices.Contains(have, id) {
			return unknownKey(id)
		}
		return keys.UseKey(id, force)
	})
}

func (s *Server) deleteKey(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	s.forceable(w, r, "gossip key removed", func(keys Keys, have []string, force bool) error {
		switch slices.Index(have, id) {
		case -1:
			return unknownKey(id)
		case 0:
			return noKeys("key %q is the one in use: use another one first", id)
		}
		return keys.RemoveKey(id, force)
	})
}

func unknownKey(id string) error {
	return notFound("key %q is not known here: /v1/keys lists those that are; add it first", id)
}

func (s *Server) forceable(w http.ResponseWriter, r *http.Request, what string, change func(keys Keys, have []string, force bool) error) {
	q := newQuery(r.URL.RawQuery, "force")
	force := q.choice("force", "false", "true") == "true"
	if q.err != nil {
		s.refuse(w, r, q.err)
		return
	}
	s.changeKeys(w, r, what, r.PathValue("id"), func(ctx context.Context, keys Keys, have []string) error {
		err := change(keys, have, force)
		if errors.Is(err, gossip.ErrKeysNotLevel) {
			// A member may have taken the last step at another host's word, and not have told us yet.
			if _, behind := keys.AwaitKeys(ctx); behind == nil {
				err = change(keys, have, force)
			}
		}
		return err
	})
}

// changeKeys takes one step, and answers when all members have taken it, or after a while who has not.
func (s *Server) changeKeys(w http.ResponseWriter, r *http.Request, what, id string, change func(ctx context.Context, keys Keys, have []string) error) {
	ctx, cancel := context.WithTimeout(r.Context(), keysWithin)
	defer cancel()
	keys, err := s.keys()
	if err == nil {
		err = change(ctx, keys, keys.KeyStatus().Keys)
	}
	if err != nil {
		s.refuse(w, r, err)
		return
	}
	callOf(r.Context()).note("change", what)
	callOf(r.Context()).note("key", id)
	status, _ := keys.AwaitKeys(ctx) // the error says who is behind, and so does the status
	s.answer(w, r, http.StatusOK, fromKeys(status))
}

func fromKeys(k gossip.KeyStatus) KeyList {
	out := KeyList{Keys: make([]Key, len(k.Keys)), Changes: k.Changes, Behind: texts(k.Behind), Away: texts(k.Away)}
	for i, id := range k.Keys {
		out.Keys[i] = Key{ID: id, InUse: i == 0}
	}
	return out
}
