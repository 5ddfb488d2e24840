package notify

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/paramedic-ha/paramedic/correlate"
)

// TestTwoHundredConsumersDoNotWaitForThoseThatFail: among them one that never answers, one that can't be connected to, and one that answers
// 500. The clock is a virtual one, which moves only when everybody waits: who waited for another's time limit would be seen to. All others have each
// fault within 2 ms, which is the hold of the outbox and one turn of a timer.
func TestTwoHundredConsumersDoNotWaitForThoseThatFail(t *testing.T) {
	for name, test := range map[string]struct {
		consumers, faults int
		every             time.Duration
	}{
		"200 consumers":         {200, 6, 10 * time.Second},
		"an hour, 10 consumers": {10, 4, 15 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var hosts []string
				var subs []Subscription
				for i := range test.consumers {
					hosts = append(hosts, fmt.Sprint("consumer-", i))
					subs = append(subs, fileSub(hosts[i], "http://"+hosts[i]+"/x"))
				}
				p := newPipes(hosts...)
				p.set(hosts[0], 0)
				p.set(hosts[1], 500)
				p.set(hosts[2], never)
				cfg, _ := testConfig(t, t.TempDir())
				cfg.Now, cfg.Log = time.Now, discard
				n, err := newNotifier(cfg, p.dial)
				if err != nil {
					t.Fatal(err)
				}
				if err := n.SetFile(subs); err != nil {
					t.Fatal(err)
				}
				stop := run(t, n)
				time.Sleep(time.Second)
				for i := range uint64(test.faults) {
					n.Publish(effects(alarm(fmt.Sprint("a", i), i+1, correlate.Raised)))
					time.Sleep(2 * time.Millisecond)
					for _, host := range hosts[3:] {
						if got := p.take(host); len(got) != 1 {
							t.Errorf("fault %d: %s has %d requests after 2 ms", i, host, len(got))
						}
					}
					time.Sleep(test.every)
				}
				if owed := len(n.Deliveries("")); owed != 3*test.faults {
					t.Errorf("%d are owed to the three", owed)
				}
				stop()
			})
		})
	}
}
