// Package config is the configuration file: its shape, its defaults, and errors that name line, column and remedy.
package config

import (
	"net/netip"
	"time"
)

// Config is the whole file. Every field has a default; the zero file runs one useful host.
type Config struct {
	Node      Node      `yaml:"node"`
	Cluster   Cluster   `yaml:"cluster"`
	API       API       `yaml:"api"`
	HW        HW        `yaml:"hw"`
	Correlate Correlate `yaml:"correlate"`
	Notify    Notify    `yaml:"notify"`
	Log       Log       `yaml:"log"`
}

// Node is this host.
type Node struct {
	Name   string            `yaml:"name"` // default: the host name
	Zone   string            `yaml:"zone"`
	Labels map[string]string `yaml:"labels"`
}

// Cluster names the set of hosts that this one belongs to.
type Cluster struct {
	Label string `yaml:"label"` // default "default"; part of every notification's source and of subscription ids
}

// API is how operators and consumers reach this agent.
type API struct {
	Socket string `yaml:"socket"` // default /run/paramedic/api.sock
}

// HW configures the sources.
type HW struct {
	NIC  NIC  `yaml:"nic"`
	Virt Virt `yaml:"virt"`
}

// NIC selects links by name globs (path.Match). Default: physical NICs, bonds, VFs and whatever a domain hangs on.
type NIC struct {
	Disabled bool     `yaml:"disabled"`
	Include  []string `yaml:"include"`
	Exclude  []string `yaml:"exclude"`
}

// Virt is the hypervisor.
type Virt struct {
	Disabled bool          `yaml:"disabled"`
	URI      string        `yaml:"uri"`     // default qemu:///system
	Socket   string        `yaml:"socket"`  // default: the first of the known sockets that answers
	Timeout  time.Duration `yaml:"timeout"` // of each call; default 2s
	Resync   time.Duration `yaml:"resync"`  // full relist; default 10s
	Owners   Owners        `yaml:"owners"`
}

// Owners maps a domain to its project when there is no Nova metadata. The first that matches wins, in this order.
type Owners struct {
	UUIDs    map[string]string `yaml:"uuids"`    // domain UUID → project
	Names    map[string]string `yaml:"names"`    // name glob → project; the longest glob first
	Metadata MetadataPath      `yaml:"metadata"` // where in <metadata> the project stands
}

// MetadataPath names one element of a domain's <metadata>.
type MetadataPath struct {
	Namespace string `yaml:"namespace"`
	Element   string `yaml:"element"`
}

// Correlate refines the rules.
type Correlate struct {
	Policies []Policy `yaml:"policies"`
}

// Policy changes severity or hold-down of the conditions that it matches.
type Policy struct {
	Match    PolicyMatch    `yaml:"match"`
	Severity string         `yaml:"severity"`
	HoldDown *time.Duration `yaml:"hold_down"`
}

// PolicyMatch is by glob on the resource id ("nic/*") and by condition; empty matches all.
type PolicyMatch struct {
	Resource  string `yaml:"resource"`
	Condition string `yaml:"condition"`
}

// Notify is how consumers are told.
type Notify struct {
	Dir            string         `yaml:"dir"` // default /var/lib/paramedic
	Retry          Retry          `yaml:"retry"`
	AllowCallbacks []netip.Prefix `yaml:"allow_callbacks"` // empty: any
	Subscriptions  []Subscription `yaml:"subscriptions"`
}

// Retry bounds how long an undelivered notification is tried before it is parked.
type Retry struct {
	MaxAge time.Duration `yaml:"max_age"` // default 24h
}

// Subscription is a consumer's standing wish, from the file.
type Subscription struct {
	Name       string   `yaml:"name"`
	Endpoints  []string `yaml:"endpoints"`
	Format     string   `yaml:"format"` // default native
	SecretFile string   `yaml:"secret_file"`
	Role       string   `yaml:"role"` // admin (default here) or consumer
	Filter     Filter   `yaml:"filter"`
}

// Filter says what a consumer wants to hear; empty lists pass all.
type Filter struct {
	Projects      []string `yaml:"projects"`
	Domains       []string `yaml:"domains"`
	ResourceTypes []string `yaml:"resource_types"`
	Conditions    []string `yaml:"conditions"`
	MinSeverity   string   `yaml:"min_severity"`
	Kinds         []string `yaml:"kinds"`
	States        []string `yaml:"states"`
	MinConfidence string   `yaml:"min_confidence"`
}

// Log is the agent's own log, on standard error.
type Log struct {
	Level  string `yaml:"level"`  // debug, info (default), warn, error
	Format string `yaml:"format"` // text (default) or json
}
