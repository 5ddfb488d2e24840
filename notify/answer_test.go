package notify

import (
	"bufio"
	"context"
	"net"
	"net/http"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/paramedic-ha/paramedic/notify/delivery"
)

// FuzzAnswer has a consumer answer a notification, a challenge and a handshake with any bytes and hang up.
func FuzzAnswer(f *testing.F) {
	for _, seed := range []string{
		"HTTP/1.1 204 No Content\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 19\r\n\r\n{\"challenge\":\"abc\"}",
		"HTTP/1.1 200 OK\r\nWebHook-Allowed-Origin: prod\r\nWebHook-Allowed-Rate: 120\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nwebhook-allowed-origin: *\r\nwebhook-allowed-rate: 99999999999999999999\r\n\r\n",
		"HTTP/1.1 503 Away\r\nRetry-After: Sun, 22 Nov 2026 12:02:00 GMT\r\nConnection: close\r\n\r\n",
		"HTTP/1.1 429 Slow\r\nRetry-After: 18446744073709551615\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
		"HTTP/1.1 410 Gone\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nxxx",
		"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 500 No\r\n\r\n",
		"HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/\r\n\r\n",
		"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\nxx",
		"HTTP/1.1 200 OK\r\nA\x00\x1b[2J\xff: b\r\n\r\n", "HTTP/1.1 200", "HTTP/9.9 abc\r\n\r\n", "\x16\x03\x01", "",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, answered []byte) {
		dial := func(context.Context, string, string) (net.Conn, error) {
			here, there := net.Pipe()
			go func() {
				defer there.Close()
				if _, err := http.ReadRequest(bufio.NewReader(there)); err != nil {
					return
				}
				_ = there.SetWriteDeadline(time.Now().Add(time.Second)) // whoever reads no more hangs up
				_, _ = there.Write(answered)
			}()
			return here, nil
		}
		n := &Notifier{cfg: Config{Label: "prod", Now: time.Now}, dial: dial}
		n.exit.Store(n.exitBy(nil, nil))
		out := newSender("paramedic", n.way(Subscription{}), time.Now)
		defer out.close()
		const endpoint = "http://consumer.example/x"
		a := out.post(t.Context(), []string{endpoint}, request{id: "1", want: 4096})
		switch o := a.outcome; {
		case o.Verdict == delivery.Settled && (a.status/100 != 2 || o.Err != ""), o.Verdict != delivery.Settled && o.Err == "":
			t.Fatalf("status %d settled it: %+v", a.status, o)
		case o.RetryAfter < 0, len(o.Err) > 512, !utf8.ValidString(o.Err), len(a.body) > 4096:
			t.Fatalf("%d bytes, %+v", len(a.body), o)
		}
		if n.challenge(t.Context(), out, fileSub("a", endpoint), endpoint) == nil {
			t.Fatal("it has guessed the challenge")
		}
		if rate, err := n.handshake(t.Context(), out, Subscription{}, endpoint); rate < 0 || err != nil && rate != 0 {
			t.Fatalf("%d a minute is allowed, %v", rate, err)
		}
	})
}
