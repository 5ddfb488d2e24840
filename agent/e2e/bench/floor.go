package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/digitalocean/go-libvirt"
	"github.com/digitalocean/go-libvirt/socket/dialers"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/paramedic-ha/paramedic/agent/e2e/lab"
)

// floorCommand is the first argument of this program when it is the bare listener.
const floorCommand = "bare-listener"

// word is all that the bare listener says: unsigned, not kept, no domain named.
type word struct {
	Fault bool      `json:"fault"` // or its end
	What  string    `json:"what"`
	At    time.Time `json:"at"` // when the kernel's or libvirt's message was there
}

// listen is the floor: it hears the same source as the agent and posts at once, and does nothing else.
func listen(args []string) error {
	if len(args) != 3 {
		return fmt.Errorf("want link LINK URL or domain SOCKET URL, not %q", args)
	}
	say := poster(args[2])
	if err := say(word{What: "ready"}); err != nil { // warms the connection
		return err
	}
	if args[0] == "link" {
		return listenLink(args[1], say)
	}
	return listenDomains(args[1], say)
}

func poster(url string) func(word) error {
	client := &http.Client{Transport: &http.Transport{DisableCompression: true}, Timeout: 10 * time.Second}
	return func(w word) error {
		body, err := json.Marshal(w)
		if err != nil {
			return err
		}
		req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, url, bytes.NewReader(body))
		if err != nil {
			return err
		}
		req.Header.Set("Content-Type", "application/json")
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, resp.Body)
		return errors.Join(err, resp.Body.Close())
	}
}

// listenLink posts each edge of the link's carrier.
func listenLink(name string, say func(word) error) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	socket, err := nl.SubscribeAt(netns.None(), netns.None(), unix.NETLINK_ROUTE, unix.RTNLGRP_LINK)
	if err != nil {
		return err
	}
	defer socket.Close()
	if err := say(word{What: "listening"}); err != nil {
		return err
	}
	up := true
	for {
		msgs, _, err := socket.Receive()
		at := time.Now()
		if err != nil {
			return err
		}
		for _, m := range msgs {
			if m.Header.Type != unix.RTM_NEWLINK || len(m.Data) < unix.SizeofIfInfomsg {
				continue
			}
			info := nl.DeserializeIfInfomsg(m.Data)
			if int(info.Index) != link.Attrs().Index || info.Flags&unix.IFF_LOWER_UP != 0 == up {
				continue
			}
			up = !up
			if err := say(word{Fault: !up, What: name, At: at}); err != nil {
				return err
			}
		}
	}
}

// listenDomains posts each start and each stop of a domain.
func listenDomains(socket string, say func(word) error) error {
	conn, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(context.Background(), "unix", socket)
	if err != nil {
		return err
	}
	c := libvirt.NewWithDialer(dialers.NewAlreadyConnected(conn))
	if err := c.ConnectToURI(libvirt.QEMUSystem); err != nil {
		return err
	}
	events, err := c.LifecycleEvents(context.Background())
	if err != nil {
		return err
	}
	if err := say(word{What: "listening"}); err != nil {
		return err
	}
	for e := range events {
		at := time.Now()
		kind := libvirt.DomainEventType(e.Event)
		if kind != libvirt.DomainEventStarted && kind != libvirt.DomainEventStopped {
			continue
		}
		if err := say(word{Fault: kind == libvirt.DomainEventStopped, What: e.Dom.Name, At: at}); err != nil {
			return err
		}
	}
	return errors.New("libvirt closed the connection")
}

// startFloor starts the bare listener on the compute host and waits until it listens.
func (s *stage) startFloor(self string, args ...string) (*lab.Process, error) {
	p, err := s.host.Start(self, append([]string{floorCommand}, append(args, s.floor.url)...)...)
	if err != nil {
		return nil, err
	}
	for {
		select {
		case w := <-s.floor.words:
			if w.What == "listening" {
				return p, nil
			}
		case <-p.Exited():
			return nil, fmt.Errorf("the bare listener ended: %s", p.Log())
		case <-time.After(patience):
			return nil, fmt.Errorf("the bare listener does not come up: %s", p.Log())
		}
	}
}
