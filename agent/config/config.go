// Package config is the configuration file: its shape and defaults (config.go), how it is read, with every problem
// told at once by line, column and remedy (parse.go, check.go), and what the rooms make of it (convert.go).
//
// docs/configuration.md is generated from this file: the comment of a field is its description there, its tags are
// its name (yaml), what it may hold (check, min, max, required) and what it is when it is not written (default).
package config

import (
	"crypto/tls"
	"crypto/x509"
	"net/netip"
	"time"

	"github.com/paramedic-ha/paramedic/agent/access"
	"github.com/paramedic-ha/paramedic/agent/seal"
	"github.com/paramedic-ha/paramedic/gossip"
	"github.com/paramedic-ha/paramedic/notify"
)

// DefaultPath is where packages put the file.
const DefaultPath = "/etc/paramedic/paramedic.yaml"

// Config is the whole file. Every key has a default; the empty file runs one useful host.
type Config struct {
	Node      Node      `yaml:"node"`
	Cluster   Cluster   `yaml:"cluster"`
	API       API       `yaml:"api"`
	HW        HW        `yaml:"hw"`
	Correlate Correlate `yaml:"correlate"`
	Notify    Notify    `yaml:"notify"`
	History   History   `yaml:"history"`
	Log       Log       `yaml:"log"`

	// File is where Load has read it; other files are found beside it.
	File string `yaml:"-"`
}

// Node is this host.
type Node struct {
	// Name of this host in alarms and notifications. When empty: the host name.
	Name string `yaml:"name" check:"name" restart:"true"`
	// Zone is where the host stands: a rack, a room. Shown with it.
	Zone string `yaml:"zone" check:"text"`
	// Labels are free words about the host, shown with it.
	Labels map[string]string `yaml:"labels" keys:"name" check:"text"`
}

// Cluster is the set of hosts that this one belongs to.
type Cluster struct {
	// Bind is the address to talk to the other hosts at, UDP and TCP; the port is 7946 unless written. When empty: this
	// host is alone.
	Bind string `yaml:"bind" check:"bind-address" restart:"true"`
	// Advertise is the address that the others are told, when it is not that of bind.
	Advertise string `yaml:"advertise" check:"peer-address" restart:"true"`
	// Watch is the address that this host is watched at by the others, to tell at once when it is lost: UDP, and echoes of the
	// kernel (ICMP). The port is 7947 unless written. When empty: that of bind, with the next port.
	Watch string `yaml:"watch" check:"bind-address" restart:"true"`
	// Join are hosts to find the others by, one that runs suffices. A name may have several addresses; the port is 7946
	// unless written.
	Join []string `yaml:"join" check:"peer" required:"true" restart:"true"`
	// Label names the cluster: hosts with another one are refused. It is part of every notification's source and of the
	// ids of this file's subscriptions, so to change it makes new subscriptions of all of them.
	Label string `yaml:"label" check:"name" required:"true" default:"default" restart:"true"`
	// KeyFile holds the key that what the hosts say to each other is encrypted with (make it with "paramedic keygen
	// --gossip"), the same on all hosts. Found as a secret_file is; nobody but its owner may have access. Needed with
	// bind. A reload takes what it holds then.
	KeyFile string `yaml:"key_file" check:"text" restart:"true"`
	// SecretsKeyFile holds the key that the secrets of subscriptions are sealed with (make it with "paramedic keygen
	// --secrets"), the same on all hosts. Found as a secret_file is; nobody but its owner may have access. Needed with
	// bind.
	SecretsKeyFile string `yaml:"secrets_key_file" check:"text" restart:"true"`
	// Witness is an address outside of the cluster that all hosts reach and that answers echoes (ping), the gateway for
	// instance: where two hosts alone, or two equal halves, can't tell a dead host from a cut link, it counts as one more host. Without it two hosts
	// know of each other only that they are probably lost.
	Witness string `yaml:"witness" check:"witness" restart:"true"`
	Detect  Detect `yaml:"detect" restart:"true"`
	// Insecure does without both keys: whoever reaches the port reads everything and may say anything. For trying out.
	Insecure bool `yaml:"insecure" restart:"true"`

	// KeyPath is where Load has found KeyFile, and Keys what it has read from it.
	KeyPath string             `yaml:"-"`
	Keys    []gossip.CipherKey `yaml:"-"`
	// Secrets is what Load has read from SecretsKeyFile; nil without one.
	Secrets *seal.Keyring `yaml:"-"`
}

// Detect is how long a host must have given no sign of life to count as lost. All hosts should have the same.
type Detect struct {
	// Probable is when consumers that ask for min_confidence probable are told.
	Probable time.Duration `yaml:"probable" min:"200ms" max:"1m" default:"350ms"`
	// Confirmed is when all others are told. At least 100ms more.
	Confirmed time.Duration `yaml:"confirmed" min:"300ms" max:"2m" default:"700ms"`
}

// API is how operators, consumers and other monitors reach this agent. docs/security.md has who may do what.
type API struct {
	// Socket is the Unix socket that the API listens on. Who may write to it is an administrator.
	Socket string `yaml:"socket" check:"path" required:"true" default:"/run/paramedic/api.sock" restart:"true"`
	// Listen is the address and port that the API listens on as well, over TCP, for those that tokens and certificates name. On
	// another address than loopback tls is needed. When empty: the API is reached by the socket alone.
	Listen string `yaml:"listen" check:"listen-address" restart:"true"`
	TLS    TLS    `yaml:"tls"`
	// Tokens are who may call with a token.
	Tokens []Token `yaml:"tokens"`
	// Certificates are who may call with a certificate.
	Certificates []Certificate `yaml:"certificates"`
}

// TLS is what makes api.listen speak it, version 1.2 or later. The files are found as a secret_file is, and read again at a reload.
type TLS struct {
	// CertFile holds the certificate of this host (PEM), with those that lead to its issuer. When empty: no TLS. Whether there is
	// any is read at start only.
	CertFile string `yaml:"cert_file" check:"text"`
	// KeyFile holds the key of the certificate (PEM). Others than owner and group must have no access to it.
	KeyFile string `yaml:"key_file" check:"text"`
	// ClientCAFile holds the certificates (PEM) of who may issue those of api.certificates.
	ClientCAFile string `yaml:"client_ca_file" check:"text"`

	// Certificate and ClientCAs are what Load has read from the files; nil without them.
	Certificate *tls.Certificate `yaml:"-"`
	ClientCAs   *x509.CertPool   `yaml:"-"`
}

// Token is an identity that shows a token. A name may stand several times, in api.certificates too, with the same role and the
// same projects: it is one identity then.
type Token struct {
	// Name of the identity: in the audit log, and as owner of its subscriptions. The same on all hosts.
	Name string `yaml:"name" check:"identity" required:"true"`
	// TokenFile holds the token: at least 32 letters, digits and -._~+/ in one line, as "paramedic keygen --token" makes it;
	// several, one a line, during a rotation. Found as a secret_file is; others than owner and group must have no access to it.
	TokenFile string `yaml:"token_file" check:"text" required:"true"`
	// Role says what the identity may do: an admin all, a consumer what concerns its projects, a monitor hand in events and read /metrics.
	Role string `yaml:"role" check:"api-role" required:"true"`
	// Projects that a consumer may see. At least one; none for the other roles.
	Projects []string `yaml:"projects" check:"project" required:"true"`

	// Tokens are the digests (SHA-256) of what Load has read from TokenFile.
	Tokens []access.Digest `yaml:"-"`
}

// Certificate is an identity that shows a certificate which one of tls.client_ca_file has issued.
type Certificate struct {
	// Name of the identity, as with a token.
	Name string `yaml:"name" check:"identity" required:"true"`
	// Subject is what the certificate must say: dns: and a DNS name, or uri: and a URI, of its alternative names (SAN), or cn:
	// and the common name of its subject. Taken literally: * stands for itself.
	Subject string `yaml:"subject" check:"certificate-subject" required:"true"`
	// Role is as that of a token.
	Role string `yaml:"role" check:"api-role" required:"true"`
	// Projects are as those of a token.
	Projects []string `yaml:"projects" check:"project" required:"true"`
}

// HW configures the sources: what is watched.
type HW struct {
	IPMI     IPMI     `yaml:"ipmi"`
	NIC      NIC      `yaml:"nic"`
	OVS      OVS      `yaml:"ovs"`
	Virt     Virt     `yaml:"virt"`
	Kmsg     Kmsg     `yaml:"kmsg"`
	Mem      Mem      `yaml:"mem"`
	Disk     Disk     `yaml:"disk"`
	Pressure Pressure `yaml:"pressure"`
	Service  Service  `yaml:"service"`
	Clock    Clock    `yaml:"clock"`
	Host     Host     `yaml:"host"`
}

// IPMI is the BMC: sensors, power supplies, fans, and its event log.
type IPMI struct {
	// Disabled turns the source off.
	Disabled bool `yaml:"disabled"`
	// Device is the number of the BMC's device: 0 for /dev/ipmi0.
	Device uint64 `yaml:"device" min:"0" max:"31" default:"0"`
	// Interval is how often it is looked for new records of the event log, a command each time. What the BMC tells by itself is
	// seen at once.
	Interval time.Duration `yaml:"interval" min:"500ms" max:"1h" default:"2s"`
	// Scan is how often each sensor is read, a command each.
	Scan time.Duration `yaml:"scan" min:"1s" max:"1h" default:"30s"`
	// Timeout of each command to the BMC.
	Timeout time.Duration `yaml:"timeout" min:"100ms" max:"1m" default:"2s"`
	// Ignore are globs on the names of sensors that are not looked at.
	Ignore []string `yaml:"ignore" check:"glob" required:"true"`
	// PowerSupplies is how many the host needs. When 0: half of those that are there, rounded up.
	PowerSupplies uint64 `yaml:"power_supplies" min:"0" max:"64" default:"0"`
	// Fans is how many the host needs: with fewer it, and with it its domains, counts as failed.
	Fans uint64 `yaml:"fans" min:"1" max:"256" default:"1"`
}

// NIC selects the links to watch by name globs, as in a shell: * ? [a-z]. Without any: physical NICs, bonds, VFs and
// whatever a domain hangs on.
type NIC struct {
	// Disabled turns the source off.
	Disabled bool `yaml:"disabled"`
	// Include adds links that are not watched by default, for instance a veth that is an uplink.
	Include []string `yaml:"include" check:"glob" required:"true"`
	// Exclude takes links out, those of include as well.
	Exclude []string `yaml:"exclude" check:"glob" required:"true"`
}

// OVS is Open vSwitch. Veths of hw.nic.include that are its ports lead out of the host.
type OVS struct {
	// Disabled turns the source off.
	Disabled bool `yaml:"disabled"`
	// Socket of its database (ovsdb-server). The control socket of ovs-vswitchd stands beside it.
	Socket string `yaml:"socket" check:"path" required:"true" default:"/run/openvswitch/db.sock"`
	// Interval at which its daemons are asked whether they live.
	Interval time.Duration `yaml:"interval" min:"100ms" max:"1m" default:"2s"`
	// Timeout after which one that does not answer is hung.
	Timeout time.Duration `yaml:"timeout" min:"100ms" max:"1m" default:"5s"`
}

// Virt is the hypervisor.
type Virt struct {
	// Disabled turns the source off.
	Disabled bool `yaml:"disabled"`
	// URI of the libvirt driver on this host.
	URI string `yaml:"uri" check:"libvirt-uri" required:"true" default:"qemu:///system"`
	// Socket of libvirtd or virtqemud. When empty: the first of the known ones that answers. A read-only socket
	// suffices.
	Socket string `yaml:"socket" check:"path"`
	// Timeout of each call to libvirt. One that takes longer is cut off, and the hypervisor is unreachable.
	Timeout time.Duration `yaml:"timeout" min:"50ms" max:"1m" default:"2s"`
	// Resync is how often all domains are listed again, so that a lost event heals.
	Resync time.Duration `yaml:"resync" min:"1s" max:"1h" default:"10s"`
	Owners Owners        `yaml:"owners"`
	VNFs   VNFs          `yaml:"vnfs"`
}

// Owners maps a domain to its project when there is no Nova metadata. The first that matches wins, in this order.
type Owners struct {
	// UUIDs maps the UUID of a domain to its project.
	UUIDs map[string]string `yaml:"uuids" keys:"uuid" check:"project" required:"true"`
	// Names maps globs on the name of a domain to its project; the longest glob that matches wins.
	Names map[string]string `yaml:"names" keys:"glob" check:"project" required:"true"`
	// Metadata is the element whose text is the project.
	Metadata MetadataPath `yaml:"metadata"`
}

// VNFs maps a domain to the VNF instance of ETSI NFV that it is part of. The first that matches wins, in this order.
type VNFs struct {
	// UUIDs maps the UUID of a domain to its VNF instance.
	UUIDs map[string]string `yaml:"uuids" keys:"uuid" check:"text" required:"true"`
	// Names maps globs on the name of a domain, libvirt's or the one that Nova's metadata has, to its VNF instance; the longest
	// glob that matches wins. Tenants choose names in Nova.
	Names map[string]string `yaml:"names" keys:"glob" check:"text" required:"true"`
	// Expression is a regular expression on such a name, whose first group is the VNF instance: for instance ^vnf-([0-9a-f-]{36})_.
	Expression string `yaml:"expression" check:"expression"`
	// Metadata is the element whose text is the VNF instance.
	Metadata MetadataPath `yaml:"metadata"`
	// VNFC is the element whose text is the VNF component that the domain is.
	VNFC MetadataPath `yaml:"vnfc"`
}

// MetadataPath names one element of a domain's <metadata>, whose text counts.
type MetadataPath struct {
	// Namespace of the element: an XML namespace URI.
	Namespace string `yaml:"namespace" check:"text"`
	// Element is the local name of the element.
	Element string `yaml:"element" check:"name"`
}

// Kmsg is the kernel's log. docs/hardware.md has the table of its rules.
type Kmsg struct {
	// Disabled turns the source off.
	Disabled bool `yaml:"disabled"`
	// Without are rules of the table that are not used.
	Without []string `yaml:"without" check:"kernel-rule" required:"true"`
	// Ignore are regular expressions of lines that mean nothing, whatever the table says.
	Ignore []string `yaml:"ignore" check:"expression" required:"true"`
	// Patterns are rules of your own. They come before those of the table, and raise kernel-message on the host.
	Patterns []KmsgPattern `yaml:"patterns"`
}

// KmsgPattern is a rule of your own for lines of the kernel's log.
type KmsgPattern struct {
	// Name is told with the alarm.
	Name string `yaml:"name" check:"name" required:"true"`
	// Match is a regular expression (RE2) on the text of the line.
	Match string `yaml:"match" check:"expression" required:"true"`
	// Severity of the alarm. When empty: warning.
	Severity string `yaml:"severity" check:"severity"`
}

// Mem is the memory, as the kernel counts its errors (EDAC).
type Mem struct {
	// Disabled turns the source off.
	Disabled bool `yaml:"disabled"`
	// Poll is how often the counters are read.
	Poll time.Duration `yaml:"poll" min:"100ms" max:"1h" default:"10s"`
	// Corrected errors of one module within the window are a fault.
	Corrected uint64 `yaml:"corrected" min:"1" max:"1000000" default:"100"`
	// Window in which they are counted.
	Window time.Duration `yaml:"window" min:"1s" max:"168h" default:"1h"`
}

// Disk is the block devices, what stands on them and what they say of themselves, and how full the file systems are.
type Disk struct {
	// Disabled turns the source off.
	Disabled bool `yaml:"disabled"`
	// Poll is how often the devices, arrays and mounts are read.
	Poll time.Duration `yaml:"poll" min:"100ms" max:"1h" default:"2s"`
	// Full is how many percent of the space or of the inodes of a file system in use are a fault.
	Full uint64 `yaml:"full" min:"50" max:"100" default:"95"`
	// Filesystems are globs on the mount points of file systems that must not become full, beside those that hold disks of
	// domains, notify.dir, /, /var or /var/lib/libvirt.
	Filesystems []string `yaml:"filesystems" check:"glob" required:"true"`
	// Health is how often drives are asked what they say of themselves (NVMe, SMART). When 0: never.
	Health time.Duration `yaml:"health" max:"24h" default:"1m"`
	// Sectors that an ATA drive can't read or could not write are a fault from this many on.
	Sectors uint64 `yaml:"sectors" min:"1" max:"1000000" default:"10"`
}

// Pressure is how much is asked of the host, and what is left of it. Limits are in percent; one of 0 is not watched.
type Pressure struct {
	// Disabled turns the source off.
	Disabled bool `yaml:"disabled"`
	// Poll is how often everything is read.
	Poll time.Duration `yaml:"poll" min:"500ms" max:"1m" default:"5s"`
	// Window is what the shares below are measured of.
	Window time.Duration `yaml:"window" min:"2s" max:"1h" default:"30s"`
	// Memory: the share of the window in which all tasks stood still for want of memory.
	Memory uint64 `yaml:"memory" max:"100" default:"20"`
	// IO: the share of the window in which all tasks waited for their storage.
	IO uint64 `yaml:"io" max:"100" default:"80"`
	// CPU: the share of the window in which any task waited for a processor.
	CPU uint64 `yaml:"cpu" max:"100" default:"90"`
	// Stolen: the share of the processors' time that the hypervisor below took, when the host is a virtual machine.
	Stolen uint64 `yaml:"stolen" max:"100" default:"20"`
	// Waiting: the share of the window in which a virtual processor of a domain waited for a real one.
	Waiting uint64 `yaml:"waiting" max:"100" default:"40"`
	// MemoryLeft: less than this share of the memory is left, free swap counted, and huge pages not.
	MemoryLeft uint64 `yaml:"memory_left" max:"100" default:"5"`
	// TablesLeft: less than this share is left of the processes, the open files or the tracked connections that the kernel
	// allows.
	TablesLeft uint64 `yaml:"tables_left" max:"100" default:"10"`
}

// Service is the units of systemd that the host needs. docs/service.md lists those that are watched without being named.
type Service struct {
	// Disabled turns the source off.
	Disabled bool `yaml:"disabled"`
	// Units of your own. They come before those of the list: the first that matches a unit has it.
	Units []ServiceUnit `yaml:"units"`
	// Without are globs on the names of units that are not watched.
	Without []string `yaml:"without" check:"glob" required:"true"`
	// Restarts of one unit by systemd within the window are a fault.
	Restarts uint64 `yaml:"restarts" min:"1" max:"1000" default:"3"`
	// Window in which they are counted.
	Window time.Duration `yaml:"window" min:"1s" max:"24h" default:"10m"`
	// Timeout of each question to systemd. When it takes longer, the source is blind.
	Timeout time.Duration `yaml:"timeout" min:"100ms" max:"1m" default:"10s"`
	// Resync is how often all units are listed again, so that a lost signal heals.
	Resync time.Duration `yaml:"resync" min:"1s" max:"1h" default:"30s"`
}

// ServiceUnit is one unit, or all that a glob matches.
type ServiceUnit struct {
	// Name of the unit, or a glob on it, with or without .service.
	Name string `yaml:"name" check:"glob" required:"true"`
	// Network says that the unit is part of the virtual network: it is told as network-service-failed, and all domains of
	// the host are at risk.
	Network bool `yaml:"network"`
	// Severity of its alarms. When empty: the conditions'.
	Severity string `yaml:"severity" check:"severity"`
}

// Clock is whether something keeps the host's clock right.
type Clock struct {
	// Disabled turns the source off.
	Disabled bool `yaml:"disabled"`
	// Poll is how often the kernel is asked.
	Poll time.Duration `yaml:"poll" min:"1s" max:"1h" default:"10s"`
	// Limit of the error that the clock may have, by what its time service says and by the time since.
	Limit time.Duration `yaml:"limit" min:"1ms" max:"16s" default:"2s"`
}

// Host is what else of the host the kernel shows: processors, PCI Express, and its own sensors. docs/host.md has it.
type Host struct {
	// Disabled turns the source off.
	Disabled bool `yaml:"disabled"`
	// Poll is how often everything is read. What the kernel tells at once is seen at once.
	Poll time.Duration `yaml:"poll" min:"1s" max:"1h" default:"10s"`
	// Corrected errors of one PCI Express function within the window are a fault.
	Corrected uint64 `yaml:"corrected" min:"1" max:"1000000" default:"100"`
	// Window in which they are counted.
	Window time.Duration `yaml:"window" min:"1s" max:"168h" default:"1h"`
	// Throttled is how often a processor may be slowed down within a minute because it is hot.
	Throttled uint64 `yaml:"throttled" min:"1" max:"1000000" default:"10"`
	// Sensors says when those of the kernel (hwmon) are watched: auto is as long as no BMC's driver is loaded, which tells the
	// same.
	Sensors string `yaml:"sensors" check:"kernel-sensors" required:"true" default:"auto"`
}

// Correlate refines the rules.
type Correlate struct {
	// Policies change severity or hold-down of what they match; of several, the first that sets one wins.
	Policies []Policy `yaml:"policies"`
	// Events say what the events of other monitors mean (docs/monitors.md). Those of other types raise the type itself on the
	// host.
	Events []EventMapping `yaml:"events"`
}

// EventMapping is what the events of one type mean.
type EventMapping struct {
	// Type of the event; of an alert of Alertmanager, its alertname.
	Type string `yaml:"type" check:"text" required:"true"`
	// Resource id, in which {name} stands for what the event says under that name, for instance nic/{source}. When empty:
	// the host.
	Resource string `yaml:"resource" check:"text"`
	// Condition that it raises: a name with a dot, which conditions of paramedic itself don't have. When empty: the type, with
	// "monitor." before it if it has no dot.
	Condition string `yaml:"condition" check:"name"`
	// Severity of the alarm when the event has none. When empty: indeterminate.
	Severity string `yaml:"severity" check:"severity"`
	// State of the resource meanwhile. When empty: degraded when the severity is warning, minor or major, else failed.
	State string `yaml:"state" check:"mapped-state"`
	// EventType is the alarm type of X.733. When empty: equipment.
	EventType string `yaml:"event_type" check:"event-type"`
	// ProbableCause as X.733 spells it. When empty: indeterminate.
	ProbableCause string `yaml:"probable_cause" check:"name"`
	// Expires is how long the alarm stands when the monitor does not say it again. When not written: until the monitor says
	// up, or somebody acknowledges it.
	Expires *time.Duration `yaml:"expires" min:"1s" max:"8760h"`
}

// Policy changes severity or hold-down of the conditions that it matches.
type Policy struct {
	Match PolicyMatch `yaml:"match"`
	// Severity of the alarm, instead of the rule's. When empty: the rule's.
	Severity string `yaml:"severity" check:"severity"`
	// HoldDown is how long the condition must have been there before the alarm is raised. When not written: the
	// rule's.
	HoldDown *time.Duration `yaml:"hold_down" min:"0s" max:"1h"`
}

// PolicyMatch says which conditions on which resources; an empty one matches all.
type PolicyMatch struct {
	// Resource is a glob on the resource id, for instance nic/* or domain/*.
	Resource string `yaml:"resource" check:"resource-glob"`
	// Condition is the name of one condition.
	Condition string `yaml:"condition" check:"condition"`
}

// Notify is how consumers are told.
type Notify struct {
	// Dir holds what must survive a restart: standing alarms, deliveries, subscriptions.
	Dir   string `yaml:"dir" check:"path" required:"true" default:"/var/lib/paramedic" restart:"true"`
	Retry Retry  `yaml:"retry"`
	// AllowCallbacks are the networks that notifications may be sent to. When empty: any. Addresses of this host itself
	// (loopback), link-local, unspecified and multicast ones, and fd00:ec2::254 are refused unless one of these networks lies
	// within their range: 127.0.0.0/8 allows 127.0.0.1, 0.0.0.0/0 does not.
	AllowCallbacks []netip.Prefix `yaml:"allow_callbacks"`
	SOL            SOL            `yaml:"sol" restart:"true"`
	Proxy          Proxy          `yaml:"proxy"`
	// Subscriptions of this file; others come and go over the API.
	Subscriptions []Subscription `yaml:"subscriptions"`
}

// Proxy is the forward proxy by which notifications leave, those of http and https alike, with CONNECT to the addresses that
// their names have here. No proxy is taken from the environment.
type Proxy struct {
	// URL of the proxy. It need not lie in allow_callbacks. When empty: there is none.
	URL string `yaml:"url" check:"proxy-url"`
	// User that the proxy asks for.
	User string `yaml:"user" check:"user"`
	// PasswordFile holds the user's password, alone on a line. Found as a secret_file is. Needed with user.
	PasswordFile string `yaml:"password_file" check:"text"`

	// Credentials are the user and what Load has read from PasswordFile.
	Credentials notify.Credentials `yaml:"-"`
}

// Retry bounds how long an undelivered notification is tried.
type Retry struct {
	// MaxAge after which a notification that nobody took is parked.
	MaxAge time.Duration `yaml:"max_age" min:"1s" max:"8760h" default:"24h" restart:"true"`
}

// SOL is what consumers of format sol are told of this cloud. The same on all hosts.
type SOL struct {
	// APIRoot is the URL behind which consumers find /vnffm/v1 of any agent, for instance of a load balancer before them: what
	// the links in notifications begin with. When empty: links begin with /vnffm/v1.
	APIRoot string `yaml:"api_root" check:"url"`
	// VIMConnectionID is the id under which VNF managers know this cloud.
	VIMConnectionID string `yaml:"vim_connection_id" check:"text" required:"true" default:"paramedic"`
}

// History bounds what is remembered of alarms that have cleared, and of the steps of each alarm. It is kept in notify.dir.
type History struct {
	// MaxAlarms is how many that have cleared are kept; the one that cleared first makes room.
	MaxAlarms uint64 `yaml:"max_alarms" min:"0" max:"1000000" default:"10000"`
	// MaxAge is how long one is kept after it has cleared.
	MaxAge time.Duration `yaml:"max_age" min:"1m" max:"87600h" default:"720h"`
}

// Subscription is a consumer's standing wish.
type Subscription struct {
	// Name of the subscription, unique within the file.
	Name string `yaml:"name" check:"name" required:"true"`
	// Endpoints are the URLs to call. At least one.
	Endpoints []string `yaml:"endpoints" check:"url" required:"true"`
	// DeliverTo says which endpoints are told: the first that answers, or all, each with its own queue and retries.
	DeliverTo string `yaml:"deliver_to" check:"deliver-to" required:"true" default:"first"`
	// Format of the notification.
	Format string `yaml:"format" check:"format" required:"true" default:"native"`
	// SecretFile holds the secret that notifications are signed with (make one with "paramedic keygen"). A name that
	// does not begin with / is a systemd credential ($CREDENTIALS_DIRECTORY), or else a file beside this one. When
	// empty: notifications are not signed.
	SecretFile string `yaml:"secret_file" check:"text"`
	// Role says what is told: an admin learns the physical cause, a consumer an abstract one and only its own
	// projects' resources.
	Role   string `yaml:"role" check:"role" required:"true" default:"admin"`
	Filter Filter `yaml:"filter"`
	// Rate is how many requests a minute the consumer takes, from all hosts together. When 0: any number. What waits
	// is overtaken by what is newer of the same alarm.
	Rate uint64 `yaml:"rate" min:"0" max:"60000" default:"0"`
	// Heartbeat is how often the consumer is told that all is watched, by one host for the cluster: silence is then not
	// health. When 0s: never. Of formats native and alertmanager, at least 1s.
	Heartbeat time.Duration    `yaml:"heartbeat" min:"0s" max:"24h" default:"0s"`
	TLS       SubscriptionTLS  `yaml:"tls"`
	Auth      SubscriptionAuth `yaml:"auth"`
	// Proxy direct: past notify.proxy. When empty: by it, when there is one.
	Proxy string `yaml:"proxy" check:"proxy"`

	// Secret is what Load has read from SecretFile, Authorities from TLS, and Credentials from TLS and Auth.
	Secret      notify.Secret      `yaml:"-"`
	Authorities string             `yaml:"-"`
	Credentials notify.Credentials `yaml:"-"`
}

// SubscriptionTLS is how https endpoints are known, and how they know us. All files are PEM, found as a secret_file is, and given to
// the other hosts with the subscription.
type SubscriptionTLS struct {
	// CAFile holds the certificates of the authorities that the endpoint's certificate is taken by, and those alone. When
	// empty: the system's.
	CAFile string `yaml:"ca_file" check:"text"`
	// CertFile holds our certificate, for a consumer that asks for one, and those between it and its authority.
	CertFile string `yaml:"cert_file" check:"text"`
	// KeyFile holds its key, without a passphrase. Others than owner and group must have no access to it.
	KeyFile string `yaml:"key_file" check:"text"`
	// ServerName that the endpoint's certificate must have. When empty: the host of its URL.
	ServerName string `yaml:"server_name" check:"name"`
}

// SubscriptionAuth is what the requests show in their Authorization header: a user with password, or a token.
type SubscriptionAuth struct {
	Basic  BasicAuth  `yaml:"basic"`
	Bearer BearerAuth `yaml:"bearer"`
}

// BasicAuth is a user with password (RFC 7617).
type BasicAuth struct {
	// User, without a colon.
	User string `yaml:"user" check:"user"`
	// PasswordFile holds the password, alone on a line. Found and kept as a secret_file is. Needed with user.
	PasswordFile string `yaml:"password_file" check:"text"`
}

// BearerAuth is a token (RFC 6750).
type BearerAuth struct {
	// TokenFile holds the token, alone on a line. Found and kept as a secret_file is.
	TokenFile string `yaml:"token_file" check:"text"`
}

// Filter says what a consumer wants to hear; an empty list passes all, and what several keys say must all hold. Projects, domains,
// vnfs and states judge the affected resources: with one of them nothing is told of what hits no domain. Hosts, zones and labels judge
// the host that the alarm is about, the other keys the alarm. Hosts, zones, labels and resources are not for role consumer, which is
// told none of them. What is cleared goes to whoever was told of it.
type Filter struct {
	// Projects whose domains matter.
	Projects []string `yaml:"projects" check:"project" required:"true"`
	// Domains that matter, by UUID, or by the name that they are shown under. Tenants choose names, and two may choose one:
	// a UUID is sure.
	Domains []string `yaml:"domains" check:"text" required:"true"`
	// Hosts that the alarm may be about, by globs on their names. The alarm of a zone is about each host that it names.
	Hosts []string `yaml:"hosts" check:"glob" required:"true"`
	// Zones that this host must be in, by globs.
	Zones []string `yaml:"zones" check:"glob" required:"true"`
	// Labels that it must have (node.labels), all of them, each with one of the values, which are globs; * is any.
	Labels map[string][]string `yaml:"labels" keys:"name" check:"glob" required:"true"`
	// Resources that the alarm may stand on, by globs on their ids, for instance nic/*.
	Resources []string `yaml:"resources" check:"resource-glob" required:"true"`
	// ResourceTypes that the alarm may stand on. A consumer may choose domain only: what happens to the domain itself.
	ResourceTypes []string `yaml:"resource_types" check:"resource-type" required:"true"`
	// Conditions that the alarm may be about, or classes of its cause: compute, network, storage, power, hypervisor. A consumer may
	// choose what it is told: the classes, and the conditions of domains.
	Conditions []string `yaml:"conditions" check:"filter-condition" required:"true"`
	// MinSeverity is the least severity; an indeterminate one always passes. When empty: any.
	MinSeverity string `yaml:"min_severity" check:"min-severity"`
	// Kinds of notifications.
	Kinds []string `yaml:"kinds" check:"notification-kind" required:"true"`
	// States of the affected domains. When empty: failed and degraded.
	States []string `yaml:"states" check:"state" required:"true"`
	// MinConfidence is how sure the hosts must be that another one is lost. All other alarms pass.
	MinConfidence string `yaml:"min_confidence" check:"confidence" required:"true" default:"confirmed"`
	// VNFs that matter, by instance (hw.virt.vnfs), or by the UUID of a domain that is part of none.
	VNFs []string `yaml:"vnfs" check:"text" required:"true"`
	// SOL narrows a subscription of format sol in the words of ETSI's FmNotificationsFilter; an empty list passes all.
	SOL SOLFilter `yaml:"sol"`
}

// SOLFilter has the lists of ETSI's FmNotificationsFilter; filter.vnfs and filter.conditions are its VNF instances and fault types.
type SOLFilter struct {
	// NotificationTypes to be sent.
	NotificationTypes []string `yaml:"notification_types" check:"sol-notification" required:"true"`
	// FaultyResourceTypes of the alarm.
	FaultyResourceTypes []string `yaml:"faulty_resource_types" check:"sol-resource" required:"true"`
	// PerceivedSeverities of the alarm.
	PerceivedSeverities []string `yaml:"perceived_severities" check:"sol-severity" required:"true"`
	// EventTypes of the alarm.
	EventTypes []string `yaml:"event_types" check:"sol-event" required:"true"`
	// ProbableCauses of the alarm, as its consumer is shown them.
	ProbableCauses []string `yaml:"probable_causes" check:"text" required:"true"`
}

// Log is the agent's own log, on standard error.
type Log struct {
	// Level is the least that is logged.
	Level string `yaml:"level" check:"log-level" required:"true" default:"info"`
	// Format of a line.
	Format string `yaml:"format" check:"log-format" required:"true" default:"text" restart:"true"`
}
