package cli

import (
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/paramedic-ha/paramedic/agent/access"
	"github.com/paramedic-ha/paramedic/agent/api"
	"github.com/paramedic-ha/paramedic/agent/seal"
	"github.com/paramedic-ha/paramedic/gossip"
	"github.com/paramedic-ha/paramedic/notify"
)

type keygenCommand struct {
	Gossip  bool   `help:"A key for cluster.key_file: what the hosts talk with." xor:"kind"`
	Secrets bool   `help:"A key for cluster.secrets_key_file: what the secrets of subscriptions are sealed with." xor:"kind"`
	Token   bool   `help:"A token for a token_file of api.tokens: what a caller of the API shows." xor:"kind"`
	File    string `help:"Write it into a new file that only you can read." placeholder:"FILE"`
}

// Run makes a signing secret (Standard Webhooks 1.0), one of the two keys of a cluster, or a token of the API.
func (c *keygenCommand) Run(s *session) error {
	name, secret := "signing secret", notify.GenerateSecret()
	hint := "It is for the secret_file of a subscription (or --secret-file of subscribe), and for its consumer."
	switch {
	case c.Gossip:
		name, secret = "gossip key", gossip.GenerateKey()
		hint = "It is for cluster.key_file, the same on all hosts. In a cluster that runs: paramedic keys add."
	case c.Secrets:
		name, secret = "secrets key", seal.GenerateKey()
		hint = "It is for cluster.secrets_key_file, the same on all hosts, and apart from cluster.key_file."
	case c.Token:
		name, secret = "token", access.GenerateToken()
		hint = "It is for a token_file of api.tokens, and for whom that names."
	}
	field := strings.ReplaceAll(name, " ", "_")
	if c.File == "" {
		fmt.Fprintln(s.Stderr, hint)
		return s.out.show(map[string]string{field: secret}, func() { s.out.line(secret) })
	}
	f, err := os.OpenFile(c.File, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("make the file of the %s: %w", name, err)
	}
	_, err = f.WriteString(secret + "\n")
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(fmt.Errorf("write the file of the %s: %w", name, err), os.Remove(c.File))
	}
	fmt.Fprintln(s.Stderr, hint)
	return s.out.show(map[string]string{"file": c.File}, func() { s.out.line("a new " + name + " is in " + c.File) })
}

type keysCommand struct {
	List   keysListCommand   `cmd:"" default:"1" help:"The fingerprints of the keys, and who has not taken the last change."`
	Add    keysAddCommand    `cmd:"" help:"First, add the new key on all hosts. It is read from a file or standard input."`
	Use    keysUseCommand    `cmd:"" help:"Then, have all hosts encrypt with it."`
	Remove keysRemoveCommand `cmd:"" help:"Last, remove the old one on all hosts."`
}

type keysListCommand struct{}

func (keysListCommand) Run(s *session) error {
	list, err := s.keys()
	if err != nil {
		return err
	}
	return s.out.show(list, func() {
		var rows [][]string
		for _, k := range list.Keys {
			use := "accepted"
			if k.InUse {
				use = "in use"
			}
			rows = append(rows, []string{word(k.ID), use})
		}
		s.out.table([]string{"KEY", "USE"}, rows)
		if len(list.Behind) > 0 {
			s.out.text("have not taken the last change: " + names(list.Behind))
		}
		if len(list.Away) > 0 {
			s.out.text("are not there to take a change: " + names(list.Away))
		}
	})
}

func (s *session) keys() (api.KeyList, error) {
	list := api.KeyList{Keys: []api.Key{}, Behind: []string{}, Away: []string{}}
	err := s.client.get(s.ctx, "/v1/keys", nil, &list)
	return list, err
}

type keysAddCommand struct {
	File string `help:"The file that holds the key, as keygen --gossip --file makes it; without it, standard input." placeholder:"FILE"`
}

// maxKeyText is more than a key file has.
const maxKeyText = 4 << 10

func (c *keysAddCommand) Run(s *session) error {
	key, text, err := c.read(s)
	if err != nil {
		return err
	}
	var list api.KeyList
	if err := s.client.do(s.ctx, "POST", "/v1/keys", api.KeyRequest{Key: text}, &list); err != nil {
		return err
	}
	return s.changed(list, "key "+key.String()+" is added")
}

// read gives the one key of the file. No error shows any of it.
func (c *keysAddCommand) read(s *session) (gossip.CipherKey, string, error) {
	from, where := s.Stdin, "standard input"
	if c.File != "" {
		f, err := os.Open(c.File)
		if err != nil {
			return nil, "", fmt.Errorf("read the key: %w", err)
		}
		defer f.Close()
		from, where = f, c.File
	} else if f, ok := s.Stdin.(*os.File); ok {
		if _, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS); err == nil {
			fmt.Fprintln(s.Stderr, "The key, then Ctrl-D:")
		}
	}
	if from == nil {
		return nil, "", errors.New("read the key: there is no standard input: use --file")
	}
	text, err := io.ReadAll(io.LimitReader(from, maxKeyText))
	if err != nil {
		return nil, "", fmt.Errorf("read the key: %w", err)
	}
	keys, err := gossip.ParseKeys(text)
	if err != nil {
		return nil, "", fmt.Errorf("read the key: %s: %w", where, err)
	}
	if len(keys) != 1 {
		return nil, "", fmt.Errorf("read the key: %s: there are %d keys in it: give the new one alone", where, len(keys))
	}
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
			return keys[0], line, nil
		}
	}
	return nil, "", fmt.Errorf("read the key: %s: there is no key in it", where)
}

type keysUseCommand struct {
	Key   string `arg:"" help:"The key's fingerprint, or its beginning."`
	Force bool   `help:"Although not all hosts have the key: the others are left out until their key_file has it."`
}

func (c *keysUseCommand) Run(s *session) error {
	id, err := s.findKey(c.Key)
	if err != nil {
		return err
	}
	var list api.KeyList
	if err := s.client.do(s.ctx, "POST", "/v1/keys/"+url.PathEscape(id)+"/use"+forced(c.Force), nil, &list); err != nil {
		return err
	}
	return s.changed(list, "key "+id+" is in use")
}

type keysRemoveCommand struct {
	Key   string `arg:"" help:"The key's fingerprint, or its beginning."`
	Force bool   `help:"Although not all hosts use another one yet: those are left out until their key_file has it."`
}

func (c *keysRemoveCommand) Run(s *session) error {
	id, err := s.findKey(c.Key)
	if err != nil {
		return err
	}
	var list api.KeyList
	if err := s.client.do(s.ctx, "DELETE", "/v1/keys/"+url.PathEscape(id)+forced(c.Force), nil, &list); err != nil {
		return err
	}
	return s.changed(list, "key "+id+" is removed")
}

func forced(force bool) string {
	if force {
		return "?force=true"
	}
	return ""
}

func (s *session) findKey(id string) (string, error) {
	list, err := s.keys()
	if err != nil {
		return "", err
	}
	k, err := findOne(list.Keys, "key", "paramedic keys", id, func(k api.Key) (string, string, string) { return k.ID, "", "" })
	return k.ID, err
}

// changed says what became of one step.
func (s *session) changed(list api.KeyList, what string) error {
	return s.out.show(list, func() {
		switch {
		case len(list.Behind) > 0:
			s.out.text(word(what) + ", but not yet on " + names(list.Behind))
		case len(list.Away) > 0:
			s.out.text(word(what) + " on all hosts that are there")
		default:
			s.out.text(word(what) + " on all hosts")
		}
		if len(list.Away) > 0 {
			s.out.text("not there: " + names(list.Away))
		}
	})
}

// names lists hosts for people.
func names(hosts []string) string {
	shown := make([]string, len(hosts))
	for i, h := range hosts {
		shown[i] = word(h)
	}
	return strings.Join(shown, ", ")
}
