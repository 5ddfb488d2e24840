// A receiver of format native, of the standard library alone: receiver 127.0.0.1:9000 secret-file
package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

type (
	alarm  struct{ ID, Revision, State string }
	domain struct{ Resource, State string }
)

var (
	key   []byte
	mu    sync.Mutex
	known = map[string][2]uint64{} // by alarm: the newest revision that was handled
)

// handle is yours: switch over. When it fails 500 is answered, and the notification comes again.
func handle(a alarm, affected []domain) error {
	_, err := fmt.Println(a.State, a.ID, a.Revision, affected)
	return err
}

func receive(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 16<<20))
	at, _ := strconv.ParseInt(r.Header.Get("webhook-timestamp"), 10, 64)
	mac := hmac.New(sha256.New, key)
	fmt.Fprintf(mac, "%s.%d.%s", r.Header.Get("webhook-id"), at, body)
	want := []byte("v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	given := strings.Fields(r.Header.Get("webhook-signature")) // two of them while a secret changes
	signed := slices.ContainsFunc(given, func(s string) bool { return hmac.Equal([]byte(s), want) })
	if err != nil || !signed || time.Since(time.Unix(at, 0)).Abs() > 5*time.Minute {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	var n struct {
		Data struct {
			Notification, Challenge string
			Alarm                   alarm
			Affected                []domain
		}
	}
	if err = json.Unmarshal(body, &n); err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	switch n.Data.Notification {
	case "verification": // is this wanted? Yes.
		_ = json.NewEncoder(w).Encode(map[string]string{"challenge": n.Data.Challenge})
		return
	case "fault":
		err = once(n.Data.Alarm, n.Data.Affected)
	}
	if err != nil {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// once handles what did not come before, maybe from another host.
func once(a alarm, affected []domain) error {
	mu.Lock()
	defer mu.Unlock()
	var revision [2]uint64
	last := known[a.ID]
	if _, err := fmt.Sscanf(a.Revision, "%d.%d", &revision[0], &revision[1]); err != nil || slices.Compare(revision[:], last[:]) <= 0 {
		return err
	}
	if err := handle(a, affected); err != nil {
		return err
	}
	known[a.ID] = revision
	return nil
}

func main() {
	secret, err := os.ReadFile(os.Args[2])
	if err != nil {
		log.Fatal(err)
	}
	if key, err = base64.StdEncoding.DecodeString(strings.TrimPrefix(strings.TrimSpace(string(secret)), "whsec_")); err != nil {
		log.Fatal("that is no signing secret")
	}
	ln, err := net.Listen("tcp", os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("listening on", ln.Addr())
	log.Fatal((&http.Server{Handler: http.HandlerFunc(receive), ReadHeaderTimeout: 10 * time.Second}).Serve(ln))
}
