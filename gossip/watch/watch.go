// Package watch decides, within a third of a second, which host is dead, and that of no living one.
//
// It is pure: no clock, goroutine, I/O or randomness of its own. A Machine is one host's part in it: as a subject it sends
// heartbeats to its observers; as an observer it watches some others, asks those that fall silent for echoes (their agents
// over UDP, their kernels by ICMP), and votes. What a quorum agrees on is a Verdict. See docs/host-loss.md.
package watch

import "time"

// Level is what a verdict says of a host, and how sure it is.
type Level uint8

// The levels. Silent and Hung say that the kernel answers and the agent does not; Probable and Confirmed that nothing does.
const (
	LevelNone      Level = iota
	LevelSilent          // the agent has been silent for silentAfter, or it was stopped and has not come back for stoppedFor
	LevelHung            // the same for hungAfter, and its port is not closed: userland stands still
	LevelProbable        // nothing was heard for Config.Probable
	LevelConfirmed       // nothing was heard for Config.Confirmed
)

// Left is a goodbye.
type Left uint8

// LeftStopped hosts are still watched, by the echoes of their kernels; LeftShutdown ones are not.
const (
	LeftNot      Left = iota
	LeftStopped       // the agent was stopped: an upgrade, a restart
	LeftShutdown      // the host is going down
)

// Config is what a Machine is made of.
type Config struct {
	Self      string
	Probable  time.Duration // cluster.detect.probable
	Confirmed time.Duration // cluster.detect.confirmed
	// Witness says that the shell can ask an outside witness (cluster.witness) for an echo: it speaks where two hosts alone
	// can't tell a dead one from a cut link.
	Witness bool
	// Echo says that the shell can ask kernels for echoes (Effects.Ping). Without it every deadline is the longer one.
	Echo bool
}

// Host is one line of the roster, as the membership knows it now. Those without Watched take no part.
type Host struct {
	Name    string
	Zone    string
	Term    uint64
	Member  bool
	Watched bool // it has told at which address it is watched
	Left    Left
	// Lost: a verdict of others stands about it. It observes nobody, which this host, if it did not count those votes itself,
	// could not know before the membership drops it.
	Lost bool
}

// Effects are what the shell carries out, in any order. Nothing in them is kept by the machine.
type Effects struct {
	Send []Send
	Ping []string // whose kernels to ask for an echo, stamped with the now of the call
	// PingWitness: ask the outside witness likewise.
	PingWitness bool
	News        []News    // in order
	Wake        time.Time // call Tick then, or a little later; never zero
	// Calm: nobody is suspect, and nothing was asked of this host that somebody waits for within Patience. The shell may leave
	// its sockets unread for that long.
	Calm bool
}

// Patience is how long a packet may lie unread at a host that is calm. Who asks for an echo, or a witness, waits for twice as long.
const Patience = 25 * time.Millisecond

// Send is one packet.
type Send struct {
	To     string
	Packet Packet
}

// NewsKind says what a News is about.
type NewsKind uint8

// The kinds of news.
const (
	// NewsVerdict: a quorum of which this host is one says Verdict. Levels only rise, each is told once, until NewsHeard.
	NewsVerdict NewsKind = iota + 1
	// NewsHeard: a host of which there was a verdict is heard again, by its agent itself. Verdict is the last one.
	NewsHeard
	// NewsIsolated: this host reaches half of the roster or less. It accuses nobody until NewsRejoined.
	NewsIsolated
	NewsRejoined
	// NewsAccused: others have a verdict about this host, which lives: Verdict names its term and level.
	NewsAccused
)

// News is what others must know.
type News struct {
	Kind    NewsKind
	Host    string // about whom; Self for those about ourselves
	Verdict Verdict
	// Reached of Roster hosts answered, ourselves included; of NewsIsolated and NewsRejoined.
	Reached, Roster int
}

// Verdict is the agreement of a host's watchers.
type Verdict struct {
	Host  string
	Term  uint64 // the host's, as its heartbeats or the membership told it last
	Level Level
	By    string // who counted the votes
	Votes []Vote // by voter, the counting one's included
	// Suspects is how many hosts were suspect or unreachable at once as far as the voters know, this one included: more than
	// one says that others will follow.
	Suspects int
	Members  int // how many there are
}

// Vote is one observer's, or witness's, word: what it has not heard, and for how long. Ages are in milliseconds, so that they
// survive different clocks; unknown ones are AgeNever.
type Vote struct {
	Voter   string
	Silence time.Duration // since the agent was heard
	Kernel  time.Duration // since the kernel answered an echo; AgeNever: it did not, in this silence
	Closed  bool          // its kernel said that nobody listens on the agent's port
	Witness bool          // the voter is no observer: it was asked to look
}

// AgeNever is the age of what never was.
const AgeNever = time.Duration(-1)

// Status is what an operator sees of the watch.
type Status struct {
	Isolated bool
	// Blind: nobody's agent was ever heard, though there are others: the port is blocked. A blind host accuses nobody.
	Blind     bool
	Observers []string // who watch this host, as far as it knows
	Observed  []Observed
	NoEcho    []string // hosts whose kernels don't answer although their agents do: they get the longer deadline
}

// Observed is one host that this one watches.
type Observed struct {
	Host    string
	Silence time.Duration
	Level   Level // of the verdict that stands
	Left    Left
	// Observers are all that watch it, this host among them, by name.
	Observers []string
}

// WithoutEcho is how many times as long as Config says a host may be silent whose kernel answers no echoes.
const WithoutEcho = unknownTimes
