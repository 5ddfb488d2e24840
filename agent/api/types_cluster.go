package api

import "time"

// The JSON of what is about the other hosts; see types.go.

// Host is GET /v1/hosts/{name}.
type Host struct {
	Name       string            `json:"name"`
	Self       bool              `json:"self"`       // the one that answers
	State      string            `json:"state"`      // see ledger.HostState
	Confidence string            `json:"confidence"` // that it is lost; empty: it is not
	Speaker    string            `json:"speaker"`    // the host that speaks for it; empty: it does itself, or nobody
	Zone       string            `json:"zone"`
	Labels     map[string]string `json:"labels"`
	Facts      map[string]string `json:"facts"`
	Version    string            `json:"version"`
	Term       uint64            `json:"term"`
	Address    string            `json:"address"`
	API        string            `json:"api"`
	Started    *time.Time        `json:"started"`
	FirstSeen  *time.Time        `json:"first_seen"`
	LastSeen   *time.Time        `json:"last_seen"`
	AsOf       *time.Time        `json:"as_of"` // nil: nothing has been heard of it in this run
	Domains    int               `json:"domains"`
	Alarms     map[string]int    `json:"alarms"` // severity → standing ones
	Watch      *HostWatch        `json:"watch"`  // nil: the answering host does not watch it
}

// HostWatch is what the watch of the answering host knows of one.
type HostWatch struct {
	Observers []string `json:"observers"`
	SilenceMS *int64   `json:"silence_ms"` // since its agent was heard; nil: never, and of the answering host itself
	NoEcho    bool     `json:"no_echo"`
}

// HostList is GET /v1/hosts, by name.
type HostList struct {
	Hosts []Host `json:"hosts"`
}

// ClusterPart is what GET /v1/status tells of the peers.
type ClusterPart struct {
	Address     string            `json:"address"`
	Term        uint64            `json:"term"`
	Members     int               `json:"members"`
	Hosts       int               `json:"hosts"`
	Away        []string          `json:"away"`
	InSync      *time.Time        `json:"in_sync"` // nil: never in this run
	Encrypted   bool              `json:"encrypted"`
	Keys        KeyList           `json:"keys"`
	SecretsKeys []string          `json:"secrets_keys"`
	JoinError   string            `json:"join_error"`
	Exchange    ExchangeCount     `json:"exchange"`
	Replica     ReplicaCount      `json:"replica"`
	Dropped     map[string]uint64 `json:"dropped"` // messages by reason
	Troubles    []Trouble         `json:"troubles"`
	Watch       *WatchPart        `json:"watch"` // nil: it has not begun
}

// WatchPart is how the watch for lost hosts does.
type WatchPart struct {
	Address    string         `json:"address"`
	Echo       string         `json:"echo"` // raw, ping or none
	EchoReason string         `json:"echo_reason"`
	Isolated   bool           `json:"isolated"`
	Blind      bool           `json:"blind"` // no other agent was ever heard
	Listening  bool           `json:"listening"`
	Witness    string         `json:"witness"`
	Deadlines  WatchDeadlines `json:"deadlines"`
	Observers  []string       `json:"observers"` // of this host
	Observed   []Observed     `json:"observed"`  // by this host
	NoEcho     []string       `json:"no_echo"`
	SpeaksFor  []string       `json:"speaks_for"`
	Counters   WatchCounters  `json:"counters"`
}

// WatchDeadlines are the silences after which a host is lost, in milliseconds.
type WatchDeadlines struct {
	ProbableMS             int64 `json:"probable_ms"`
	ConfirmedMS            int64 `json:"confirmed_ms"`
	ProbableWithoutEchoMS  int64 `json:"probable_without_echo_ms"`
	ConfirmedWithoutEchoMS int64 `json:"confirmed_without_echo_ms"`
}

// Observed is one host that the answering one watches.
type Observed struct {
	Host      string `json:"host"`
	SilenceMS *int64 `json:"silence_ms"` // nil: its agent was never heard
	Verdict   string `json:"verdict"`    // none, silent, hung, probable or confirmed
	Left      string `json:"left"`       // agent-stop, host-shutdown, or empty
}

// WatchCounters count since the start.
type WatchCounters struct {
	Sent           uint64            `json:"sent"`
	Received       uint64            `json:"received"`
	Refused        map[string]uint64 `json:"refused"` // by reason, none left out
	SendErrors     uint64            `json:"send_errors"`
	Unsent         uint64            `json:"unsent"`
	PortsClosed    uint64            `json:"ports_closed"`
	EchoesSent     uint64            `json:"echoes_sent"`
	EchoReplies    uint64            `json:"echo_replies"`
	EchoesForeign  uint64            `json:"echoes_foreign"`
	EchoesHeldBack uint64            `json:"echoes_held_back"`
	Late           uint64            `json:"late"`
	LatestMS       int64             `json:"latest_ms"`
	Verdicts       map[string]uint64 `json:"verdicts"` // by level, none left out
	FalseAlarms    uint64            `json:"false_alarms"`
	Accused        uint64            `json:"accused"`
	Spoke          uint64            `json:"spoke"`
	Hushed         uint64            `json:"hushed"`
	Claims         uint64            `json:"claims"`
	Dropped        uint64            `json:"dropped"`
}

// ExchangeCount counts what was compared with peers.
type ExchangeCount struct {
	Digests     uint64 `json:"digests"`
	InSync      uint64 `json:"in_sync"`
	Undecodable uint64 `json:"undecodable"`
	Undelivered uint64 `json:"undelivered"`
}

// ReplicaCount is what is held of all hosts.
type ReplicaCount struct {
	Hosts      int `json:"hosts"`
	Records    int `json:"records"`
	Tombstones int `json:"tombstones"`
	Bytes      int `json:"bytes"`
}

// Trouble is one thing that is wrong with one peer, in words, with the remedy.
type Trouble struct {
	Kind  string     `json:"kind"`
	Peer  string     `json:"peer"`
	Text  string     `json:"text"`
	Count uint64     `json:"count"`
	First *time.Time `json:"first"`
	Last  *time.Time `json:"last"`
}

// Key is one key of the gossip: its fingerprint, nothing of the key itself.
type Key struct {
	ID    string `json:"id"`
	InUse bool   `json:"in_use"`
}

// KeyList is GET /v1/keys.
type KeyList struct {
	Keys    []Key    `json:"keys"` // the one in use first
	Changes uint64   `json:"changes"`
	Behind  []string `json:"behind"` // members that have not taken the last change
	Away    []string `json:"away"`   // hosts that are not there to take it
}

// KeyRequest is the body of POST /v1/keys.
type KeyRequest struct {
	Key string `json:"key"` // base64
}
