package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"

	"github.com/paramedic-ha/paramedic/agent/seal"
	"github.com/paramedic-ha/paramedic/gossip"
)

// What the peers take of a host (gossip): longer ones are for a host that is alone.
const (
	maxPeerName = 128
	maxPeerZone = 128
)

func checkBind(s string) *wrong {
	_, wrong := readAddress(s)
	return wrong
}

// checkAddress is for an address that others are to reach.
func checkAddress(s string) *wrong {
	addr, bad := readAddress(s)
	if bad == nil && addr.IsUnspecified() {
		return &wrong{fmt.Sprintf("%q is nobody's address", s), "write the address that the other hosts reach this one at"}
	}
	return bad
}

// readAddress reads address[:port].
func readAddress(s string) (netip.Addr, *wrong) {
	addr, err := netip.ParseAddr(s)
	if err != nil {
		host, port, notSplit := net.SplitHostPort(s)
		if notSplit != nil {
			host = strings.Trim(s, "[]")
		}
		if addr, err = netip.ParseAddr(host); err != nil {
			return addr, &wrong{fmt.Sprintf("%q is not an address", s), "write an IP address, for instance 10.0.0.1, 10.0.0.1:7946 or [2001:db8::1]:7946"}
		}
		if notSplit != nil {
			return addr, &wrong{fmt.Sprintf("%q is not an address", s), fmt.Sprintf("write %s or %s", addr, netip.AddrPortFrom(addr, gossip.DefaultPort))}
		}
		if bad := checkPort(s, port); bad != nil {
			return addr, bad
		}
	}
	if addr.IsMulticast() {
		return addr, &wrong{fmt.Sprintf("%q is a multicast address", s), "write the address of one host"}
	}
	return addr, nil
}

func checkPort(s, port string) *wrong {
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return &wrong{fmt.Sprintf("%q has no valid port", s), "write a port from 1 to 65535"}
	}
	return nil
}

// checkPeer is for name[:port] or address[:port].
func checkPeer(s string) *wrong {
	name, port, hasPort := strings.Cut(s, ":")
	if _, err := netip.ParseAddr(name); err == nil || strings.Contains(port, ":") || strings.HasPrefix(s, "[") {
		return checkAddress(s)
	}
	if name == "" || checkName(name) != nil {
		return &wrong{fmt.Sprintf("%s is neither a host name nor an address", strconv.Quote(s)), "write, for instance, cmp-2, cmp-2:7946 or 10.0.0.2"}
	}
	if hasPort {
		return checkPort(s, port)
	}
	return nil
}

// acrossCluster checks what the keys of the cluster ask of each other.
func (p *parser) acrossCluster(cfg *Config) {
	c := &cfg.Cluster
	// refused: there was something that could not be taken, which has been said already.
	refused := func(key, value string) bool {
		n := p.at["cluster."+key]
		return value == "" && n != nil && n.Tag != "!!null" && (n.Kind != yaml.ScalarNode || n.Value != "")
	}
	if c.Bind == "" {
		if refused("bind", c.Bind) {
			return
		}
		for _, one := range []struct {
			key string
			set bool
		}{
			{"advertise", c.Advertise != ""},
			{"watch", c.Watch != ""},
			{"witness", c.Witness != ""},
			{"join", len(c.Join) > 0},
			{"key_file", c.KeyFile != ""},
			{"secrets_key_file", c.SecretsKeyFile != ""},
			{"insecure", c.Insecure},
		} {
			if one.set {
				p.add("cluster."+one.key, fmt.Sprintf("cluster.%s does nothing without cluster.bind: this host is alone", one.key),
					"write cluster.bind: and the address to talk to the other hosts at, or remove this")
			}
		}
		return
	}
	if d := c.Detect; d.Probable > 0 && d.Confirmed > 0 && d.Confirmed < d.Probable+leastApart { // zero: it was refused
		at := "cluster.detect.confirmed"
		if p.at[at] == nil {
			at = "cluster.detect.probable"
		}
		p.add(at, fmt.Sprintf("confirmed (%v) must be at least %v more than probable (%v)", c.Detect.Confirmed, leastApart, c.Detect.Probable),
			fmt.Sprintf("write confirmed: %v or more", c.Detect.Probable+leastApart))
	}
	for _, file := range []struct{ key, value, does, flag string }{
		{"key_file", c.KeyFile, "what the hosts say to each other is encrypted with", "--gossip"},
		{"secrets_key_file", c.SecretsKeyFile, "the secrets of subscriptions are sealed with", "--secrets"},
	} {
		switch {
		case file.value == "" && !c.Insecure && !refused(file.key, file.value):
			p.add("cluster."+file.key, fmt.Sprintf("cluster.%s is missing: it holds the key that %s", file.key, file.does),
				fmt.Sprintf("make one with \"paramedic keygen %s --file FILE\", the same on all hosts, and name it; or write insecure: true to try out without", file.flag))
		case file.value != "" && c.Insecure:
			p.add("cluster.insecure", fmt.Sprintf("cluster.insecure and cluster.%s contradict each other", file.key), "remove one of them")
		}
	}
	if c.KeyFile != "" && c.KeyFile == c.SecretsKeyFile {
		p.add("cluster.secrets_key_file", "it is the file of cluster.key_file", "make another key with \"paramedic keygen --secrets\": who has the one must not have the other")
	}
	if n := len(cfg.Node.Name); n > maxPeerName {
		p.add("node.name", fmt.Sprintf("%d bytes are too long for a host of a cluster", n), fmt.Sprintf("use up to %d", maxPeerName))
	}
	if n := len(cfg.Node.Zone); n > maxPeerZone {
		p.add("node.zone", fmt.Sprintf("%d bytes are too long for a host of a cluster", n), fmt.Sprintf("use up to %d", maxPeerZone))
	}
}

// leastApart is between the two levels of a host's loss: the time of a vote.
const leastApart = 100 * time.Millisecond

// checkWitness is for a name or an address without a port.
func checkWitness(s string) *wrong {
	if addr, err := netip.ParseAddr(s); err == nil {
		if addr.IsUnspecified() || addr.IsMulticast() || addr.IsLoopback() {
			return &wrong{fmt.Sprintf("%q is not another machine's address", s), "write an address outside of the cluster that answers ping, for instance the gateway's"}
		}
		return nil
	}
	if strings.Contains(s, ":") || checkName(s) != nil {
		return &wrong{fmt.Sprintf("%q is neither a host name nor an address", s), "write, for instance, 10.0.0.254; there is no port"}
	}
	return nil
}

// loadClusterKeys reads the two key files.
func (p *parser) loadClusterKeys(cfg *Config, credentials string) {
	c := &cfg.Cluster
	if c.KeyFile != "" {
		c.KeyPath = SecretPath(c.KeyFile, credentials, filepath.Dir(p.file))
		p.loadKeyFile("key_file", "--gossip", c.KeyFile, c.KeyPath, credentials, func(text []byte) (err error) {
			c.Keys, err = gossip.ParseKeys(text)
			return err
		})
	}
	if c.SecretsKeyFile != "" {
		file := SecretPath(c.SecretsKeyFile, credentials, filepath.Dir(p.file))
		p.loadKeyFile("secrets_key_file", "--secrets", c.SecretsKeyFile, file, credentials, func(text []byte) (err error) {
			c.Secrets, err = seal.ParseKeyring(text)
			return err
		})
	}
}

func (p *parser) loadKeyFile(key, flag, name, file, credentials string, parse func([]byte) error) {
	// A credential's group bits are the mask of an access list, by which systemd lets the service's user read it.
	allow := os.FileMode(0o700)
	if credentials != "" && filepath.Dir(file) == filepath.Clean(credentials) {
		allow = 0o770
	}
	data, problem := readPrivate(file, maxSecret, allow)
	if problem == nil {
		if err := parse(data); err != nil {
			problem = &Problem{Message: err.Error(), Remedy: fmt.Sprintf("it holds what \"paramedic keygen %s\" prints, one key a line", flag)}
		}
	} else if _, err := os.Stat(file); errors.Is(err, os.ErrNotExist) {
		made := file
		if p.unnamed["cluster."+key] {
			made = "FILE"
		}
		problem.Remedy = fmt.Sprintf("copy it from another host of the cluster; on the first one, make it with \"paramedic keygen %s --file %s\"", flag, made)
		if !filepath.IsAbs(name) {
			problem.Remedy += ", or make it a systemd credential (LoadCredential=)"
		}
	}
	if problem != nil {
		p.add("cluster."+key, p.named("cluster."+key, "key file", file)+": "+problem.Message, problem.Remedy)
	}
}
