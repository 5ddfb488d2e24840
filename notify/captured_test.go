package notify

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/paramedic-ha/paramedic/correlate"
	"github.com/paramedic-ha/paramedic/notify/format"
)

var rewriteManual = flag.Bool("rewrite", false, "write the captured requests of docs/consumers.md anew")

const consumersDoc = "../docs/consumers.md"

// TestTheManualShowsWhatIsReallySent: the requests in docs/consumers.md are those of a Notifier, captured on a clock that stands.
func TestTheManualShowsWhatIsReallySent(t *testing.T) {
	doc, err := os.ReadFile(consumersDoc)
	if err != nil {
		t.Fatal(err)
	}
	text := string(doc)
	for _, name := range format.Names() {
		block := regexp.MustCompile(`(?s)(<!-- captured: ` + name + ` -->\n` + "```http\n)(.*?)(```\n)")
		if !block.MatchString(text) {
			t.Errorf("there is no request of format %s", name)
			continue
		}
		text = block.ReplaceAllStringFunc(text, func(old string) string {
			part := block.FindStringSubmatch(old)
			return part[1] + capture(t, name) + part[3]
		})
	}
	if *rewriteManual {
		if err := os.WriteFile(consumersDoc, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if d := gocmp.Diff(string(doc), text); d != "" {
		t.Errorf("the manual shows another request (-rewrite writes it anew):\n%s", d)
	}
}

// capture is the first request about a bond that hits one machine, its body indented.
func capture(t *testing.T, name string) (text string) {
	synctest.Test(t, func(t *testing.T) {
		<-time.After(time.Until(epoch))
		cfg, _ := testConfig(t, t.TempDir())
		cfg.Now, cfg.Log, cfg.UserAgent = time.Now, discard, "paramedic"
		cfg.SOL = format.SOLSite{APIRoot: "https://paramedic.example:8443", VIM: "vim-1"}
		got := make(chan string, 1)
		n, err := newNotifier(cfg, func(context.Context, string, string) (net.Conn, error) {
			here, there := net.Pipe()
			go func() {
				defer there.Close()
				r, err := http.ReadRequest(bufio.NewReader(there))
				if err != nil {
					return
				}
				got <- printed(r)
				_ = (&http.Response{StatusCode: http.StatusNoContent, ProtoMajor: 1, ProtoMinor: 1}).Write(there)
			}()
			return here, nil
		})
		if err != nil {
			t.Fatal(err)
		}
		form, _ := format.Of(name)
		sub := fileSub("vnfm", "http://vnfm.example:8080"+cmp.Or(form.Path, "/failure"))
		sub.Format, sub.Secret = name, NewSecret(bytes.Repeat([]byte{7}, 32))
		if err := n.SetFile([]Subscription{sub}); err != nil {
			t.Fatal(err)
		}
		stop := run(t, n)
		a := alarm("5a1e", 7, correlate.Raised, "d498d0054fd049eab4263796a9d45a77")
		a.Affected[0].VNF = correlate.VNF{ID: "vfw-1", VNFC: "vdu-a"}
		now := time.Now()
		a.Times = correlate.Times{Occurred: now.Add(-3 * time.Millisecond), Observed: now.Add(-2 * time.Millisecond), Raised: now.Add(-time.Millisecond)}
		n.Publish(correlate.Effects{Save: []*correlate.Alarm{a}, Publish: []correlate.Change{
			{Alarm: a, Occurred: a.Times.Occurred, Observed: a.Times.Observed, Found: a.Times.Raised},
		}})
		text = <-got
		stop()
	})
	return text
}

func printed(r *http.Request) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s %s\nHost: %s\n", r.Method, r.URL, r.Proto, r.Host)
	var lines []string
	for name, values := range r.Header {
		if name != "Accept-Encoding" {
			lines = append(lines, name+": "+values[0]+"\n")
		}
	}
	slices.Sort(lines)
	b.WriteString(strings.Join(lines, "") + "\n")
	body, _ := io.ReadAll(r.Body)
	var indented bytes.Buffer
	if err := json.Indent(&indented, body, "", "  "); err != nil {
		indented.Write(body)
	}
	return b.String() + indented.String() + "\n"
}
