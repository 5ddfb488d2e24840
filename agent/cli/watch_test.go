package cli

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The agent ends the stream after each event, as one that is restarted does; the second time it is asked for what
// came after the first event.
func TestWatchGoesOnWhereItWas(t *testing.T) {
	path := filepath.Join(t.TempDir(), "api.sock")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	asked := make(chan string, 10)
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		last := r.Header.Get("Last-Event-ID")
		asked <- r.URL.Path + " " + last
		event := func(id, transition string) {
			fmt.Fprintf(w, ": still here\n\nevent: alarm\nid: %s\ndata: {\"transition\":%q,\ndata: \"alarm\":{\"id\":\"3f9c01aa11\",\"severity\":\"critical\","+
				"\"condition\":\"crash\",\"host\":\"cmp-2\",\"as_of\":\"2026-11-22T11:59:59Z\",\"resource\":\"domain/1\",\"text\":\"qemu\\u001b died\",\"times\":{\"raised\":\"2026-11-22T11:58:00Z\"},"+
				"\"affected\":[{\"resource\":\"domain/1\",\"name\":\"vm-1\"}]}}\n\n", id, transition)
		}
		switch last {
		case "":
			event("4.1", "raised")
		case "4.1":
			fmt.Fprint(w, "event: something-new\ndata: {}\n\n")
			event("4.3", "cleared")
		default:
			cancel()
		}
	})}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(listener)
	}()
	defer func() {
		_ = server.Close()
		<-done
	}()
	var stdout, stderr bytes.Buffer
	p := Process{
		Stdout: &stdout, Stderr: &stderr,
		now: func() time.Time { return time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC) },
	}
	s := &session{Process: p, ctx: ctx, out: newPrinter(p, "table", true)}
	c, err := newClient("unix://"+path, serverFlags{}, "test")
	if err != nil {
		t.Fatal(err)
	}
	s.clients = []*client{c}
	if err := (&watchCommand{}).Run(s); err != nil {
		t.Fatal(err)
	}
	want := "11:58:00 3f9c01aa raised critical crash on cmp-2 domain/1: qemu\\x1b died [vm-1]\n" +
		"- 3f9c01aa cleared critical crash on cmp-2 domain/1: qemu\\x1b died [vm-1]\n"
	if got := stdout.String(); got != want {
		t.Errorf("printed\n%swant\n%s", got, want)
	}
	for _, want := range []string{"/v1/watch ", "/v1/watch 4.1", "/v1/watch 4.3"} {
		if got := <-asked; got != want {
			t.Errorf("asked for %q, want %q", got, want)
		}
	}
	if !strings.Contains(stderr.String(), "has ended the stream") {
		t.Errorf("the break was not said: %s", stderr.String())
	}
}
