package ledger

import (
	"time"

	"github.com/paramedic-ha/paramedic/correlate"
)

// HostView is one host of the cluster as this agent knows it, itself included. The shell fills in what the membership
// knows; the rest is the host's own word.
type HostView struct {
	Name    string
	Host    // zero while it has not spoken in this run of ours
	Self    bool
	Member  bool   // it is there at this moment
	Addr    string // of its gossip
	API     string
	Term    uint64
	First   time.Time // it was first seen
	Last    time.Time // it was last a member; now for one that is
	AsOf    time.Time // what is known of it is not older than this; zero: nothing is known
	Domains int       // active ones
	Alarms  map[correlate.Severity]int
}

// AlarmView is an alarm of another host.
type AlarmView struct {
	Alarm *correlate.Alarm
	AsOf  time.Time // it stood so at this time for certain
}

// DomainView is a domain of another host. State follows from the standing alarms of that host.
type DomainView struct {
	Home string
	UUID string
	Domain
	State correlate.State
	AsOf  time.Time
}
