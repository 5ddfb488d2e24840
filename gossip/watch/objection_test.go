package watch

import (
	"testing"
	"time"
)

// TestAnObserverObjectsToAVoteThatIsTooEarly: one whose own link was down must not outvote, together with witnesses, the
// observers that heard the host meanwhile.
func TestAnObserverObjectsToAVoteThatIsTooEarly(t *testing.T) {
	const now = time.Minute
	ago := func(d time.Duration) time.Duration { return now - d }
	for _, c := range []struct {
		name          string
		heard, kernel time.Duration
		vote          Packet
		want          bool
	}{
		{"heard well after the voter did", ago(195 * time.Millisecond), 0, Packet{Level: LevelProbable, Silence: 463 * time.Millisecond, Kernel: AgeNever}, true},
		{"only the kernel was", ago(time.Second), ago(200 * time.Millisecond), Packet{Level: LevelProbable, Silence: time.Second, Kernel: AgeNever}, true},
		{"one heartbeat later", ago(290 * time.Millisecond), 0, Packet{Level: LevelProbable, Silence: 340 * time.Millisecond, Kernel: AgeNever}, false},
		{"never heard", 0, 0, Packet{Level: LevelProbable, Silence: 2 * now, Kernel: AgeNever}, false},
		{"a kernel is no agent", ago(5 * time.Second), ago(20 * time.Millisecond), Packet{Level: LevelSilent, Silence: 5 * time.Second, Kernel: AgeNever}, false},
		{"a witness has its own eyes", ago(195 * time.Millisecond), 0, Packet{Level: LevelProbable, Silence: 2 * time.Second, Kernel: AgeNever, Witness: true}, false},
		{"the voter never heard it", ago(195 * time.Millisecond), 0, Packet{Level: LevelProbable, Silence: AgeNever, Kernel: AgeNever}, false},
	} {
		if got := new(Machine).heardLater(&peer{heard: c.heard, kernel: c.kernel}, c.vote, now); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}
