package watch

import "time"

// Silence is since when the host gave no sign of life, before the verdict: by the one who heard it last.
func (v Verdict) Silence() time.Duration {
	least := time.Duration(-1)
	for i := range v.Votes {
		age := v.Votes[i].Silence
		if k := v.Votes[i].Kernel; k != AgeNever && (k < age || age < 0) && v.Level >= LevelProbable {
			age = k
		}
		if age >= 0 && (least < 0 || age < least) { // a witness may never have heard it
			least = age
		}
	}
	return max(0, least)
}

// Closed reports whether a voter was told by the host's kernel that nobody listens on the agent's port.
func (v Verdict) Closed() bool {
	for i := range v.Votes {
		if v.Votes[i].Closed {
			return true
		}
	}
	return false
}

var levelNames = [...]string{"none", "silent", "hung", "probable", "confirmed"}

func (l Level) String() string {
	if int(l) < len(levelNames) {
		return levelNames[l]
	}
	return "level?"
}
