package api

import "time"

// The JSON of what is about the other hosts; see types.go.

// Host is GET /v1/hosts/{name}.
type Host struct {
	Name      string            `json:"name"`
	Self      bool              `json:"self"`  // the one that answers
	State     string            `json:"state"` // member, starting or away
	Zone      string            `json:"zone"`
	Labels    map[string]string `json:"labels"`
	Facts     map[string]string `json:"facts"`
	Version   string            `json:"version"`
	Term      uint64            `json:"term"`
	Address   string            `json:"address"`
	API       string            `json:"api"`
	Started   *time.Time        `json:"started"`
	FirstSeen *time.Time        `json:"first_seen"`
	LastSeen  *time.Time        `json:"last_seen"`
	AsOf      *time.Time        `json:"as_of"` // nil: nothing has been heard of it in this run
	Domains   int               `json:"domains"`
	Alarms    map[string]int    `json:"alarms"` // severity → standing ones
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
