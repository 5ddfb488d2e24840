package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	webhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/paramedic-ha/paramedic/agent/e2e/lab"
)

// arrived is a notification of the agent, as its consumer reads it.
type arrived struct {
	at   time.Time // when the whole body was there
	size int
	err  error // it was not signed as it should be, or unreadable

	Type string `json:"type"`
	Data struct {
		Alarm struct {
			Condition string `json:"condition"`
		} `json:"alarm"`
		Affected []struct {
			Name string `json:"name"`
		} `json:"affected"`
		Timeline map[string]time.Time `json:"timeline"`
	} `json:"data"`
}

// consumer is the agent's: it checks the signature of each notification, after it has noted the time.
type consumer struct {
	url    string
	got    chan arrived
	server *http.Server
}

func newConsumer(ln net.Listener, secret []byte) (*consumer, error) {
	verify, err := webhooks.NewWebhookRaw(secret)
	if err != nil {
		return nil, fmt.Errorf("consumer: secret: %w", err)
	}
	c := &consumer{url: "http://" + ln.Addr().String() + "/", got: make(chan arrived, 4096)}
	c.server = serve(ln, func(header http.Header, body []byte, at time.Time) {
		a := arrived{size: len(body)}
		if a.err = json.Unmarshal(body, &a); a.err == nil {
			a.err = verify.Verify(body, header)
		}
		a.at = at
		c.got <- a
	})
	return c, nil
}

// floorConsumer is the bare listener's: the same kind of server.
type floorConsumer struct {
	url    string
	words  chan heard
	server *http.Server
}

type heard struct {
	word
	at time.Time
}

func newFloorConsumer(ln net.Listener) *floorConsumer {
	c := &floorConsumer{url: "http://" + ln.Addr().String() + "/", words: make(chan heard, 4096)}
	c.server = serve(ln, func(_ http.Header, body []byte, at time.Time) {
		h := heard{at: at}
		if err := json.Unmarshal(body, &h.word); err != nil {
			h.What = "unreadable: " + err.Error()
		}
		c.words <- h
	})
	return c
}

// serve answers 204 to all; take gets the body and the time at which all of it was there.
func serve(ln net.Listener, take func(header http.Header, body []byte, at time.Time)) *http.Server {
	s := &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		at := time.Now()
		if err != nil {
			return
		}
		take(r.Header, body, at)
		w.WriteHeader(http.StatusNoContent)
	})}
	go func() { _ = s.Serve(ln) }() // ends with Close
	return s
}

func consumersOf(host *lab.Host, secret []byte) (*consumer, *floorConsumer, error) {
	a, err := host.Listen(consumerAddr + ":0")
	if err != nil {
		return nil, nil, err
	}
	b, err := host.Listen(consumerAddr + ":0")
	if err != nil {
		return nil, nil, err
	}
	c, err := newConsumer(a, secret)
	return c, newFloorConsumer(b), err
}
