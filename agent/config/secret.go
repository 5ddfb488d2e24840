package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/paramedic-ha/paramedic/notify"
)

// Sizes of files in bytes; what notify takes of them is less.
const (
	maxToken = 16 << 10
	maxPEM   = 256 << 10
)

// loadSecrets reads the secrets and authorities of subscriptions. credentials is systemd's credential directory, or "".
func (p *parser) loadSecrets(cfg *Config, credentials string) {
	for i := range cfg.Notify.Subscriptions {
		s := &cfg.Notify.Subscriptions[i]
		at := func(key string) string { return fmt.Sprintf("notify.subscriptions[%d].%s", i, key) }
		p.load(at("secret_file"), "secret file", s.SecretFile, credentials, func(file string) (problem *Problem) {
			s.Secret, problem = ReadSecret(file)
			return problem
		})
		p.load(at("tls.ca_file"), "file", s.TLS.CAFile, credentials, func(file string) (problem *Problem) {
			s.Authorities, problem = ReadAuthorities(file)
			return problem
		})
	}
}

// loadCredentials reads what subscriptions and the proxy show: certificates, passwords and tokens.
func (p *parser) loadCredentials(cfg *Config, credentials string) {
	for i := range cfg.Notify.Subscriptions {
		s := &cfg.Notify.Subscriptions[i]
		s.Credentials = notify.Credentials{}
		at := func(key string) string { return fmt.Sprintf("notify.subscriptions[%d].%s", i, key) }
		take := func(c notify.Credentials, problem *Problem) *Problem {
			s.Credentials = s.Credentials.With(c)
			return problem
		}
		p.load(at("tls.cert_file"), "file", s.TLS.CertFile, credentials, func(file string) *Problem {
			key := SecretPath(s.TLS.KeyFile, credentials, filepath.Dir(p.file))
			if _, problem := readPrivate(key, maxPEM, 0o770); problem != nil {
				return nil // said below
			}
			return take(ReadCertificate(file, key))
		})
		p.load(at("tls.key_file"), "file", s.TLS.KeyFile, credentials, func(file string) *Problem {
			_, problem := readPrivate(file, maxPEM, 0o770)
			return problem
		})
		p.load(at("auth.basic.password_file"), "file", s.Auth.Basic.PasswordFile, credentials, func(file string) *Problem {
			return take(ReadPassword(s.Auth.Basic.User, file))
		})
		p.load(at("auth.bearer.token_file"), "file", s.Auth.Bearer.TokenFile, credentials, func(file string) *Problem {
			return take(ReadToken(file))
		})
	}
	proxy := &cfg.Notify.Proxy
	p.load("notify.proxy.password_file", "file", proxy.PasswordFile, credentials, func(file string) (problem *Problem) {
		proxy.Credentials, problem = ReadPassword(proxy.User, file)
		return problem
	})
}

// Renewed is c with the certificates, passwords and tokens that its files hold now, and whether they are others. Nothing else is
// read again. An error says what can't be used.
func (c *Config) Renewed() (*Config, bool, error) {
	fresh := *c
	fresh.Notify.Subscriptions = slices.Clone(c.Notify.Subscriptions)
	p := &parser{file: c.File}
	p.loadCredentials(&fresh, os.Getenv("CREDENTIALS_DIRECTORY"))
	if _, err := p.result(&fresh); err != nil {
		return nil, false, err
	}
	same := fresh.Notify.Proxy.Credentials.Equal(c.Notify.Proxy.Credentials) &&
		slices.EqualFunc(fresh.Notify.Subscriptions, c.Notify.Subscriptions, func(a, b Subscription) bool { return a.Credentials.Equal(b.Credentials) })
	return &fresh, !same, nil
}

// load has read look at the file that a key names, if it names one, and tells at the key what is wrong with it.
func (p *parser) load(key, what, name, credentials string, read func(file string) *Problem) {
	if name == "" {
		return
	}
	file := SecretPath(name, credentials, filepath.Dir(p.file))
	problem := read(file)
	if problem == nil {
		return
	}
	if _, err := os.Stat(file); errors.Is(err, os.ErrNotExist) {
		problem.Remedy = "create it, or name another"
		if !filepath.IsAbs(name) {
			problem.Remedy = "put it there, or make it a systemd credential (LoadCredential=)"
		}
		if strings.HasSuffix(key, ".secret_file") {
			problem.Remedy += "; \"paramedic keygen --file\" makes one"
		}
	}
	p.add(key, p.named(key, what, file)+": "+problem.Message, problem.Remedy)
}

// named is what a problem calls the file of a key.
func (p *parser) named(key, what, file string) string {
	if p.unnamed[key] {
		return what + " named here"
	}
	return what + " " + file
}

// hideNames takes out of all problems what stands where the file of a secret is to be named, and is the name of none: people write
// the secret itself there.
func (p *parser) hideNames(credentials string) {
	p.unnamed = make(map[string]bool)
	for key, n := range p.at {
		public := strings.HasSuffix(key, "cert_file") || strings.HasSuffix(key, "ca_file")
		if !strings.HasSuffix(key, "_file") || public || n.Kind != yaml.ScalarNode || n.Value == "" || namesFile(n.Value, credentials, filepath.Dir(p.file)) {
			continue
		}
		p.unnamed[key] = true
		p.hide(n)
	}
}

// namesFile reports whether a name can be told: of a file that is there, or of one that is missing in a directory that is.
func namesFile(name, credentials, beside string) bool {
	if _, err := os.Stat(SecretPath(name, credentials, beside)); err == nil {
		return true
	}
	dir := filepath.Dir(name)
	if !filepath.IsAbs(name) || dir == "/" {
		return false
	}
	info, err := os.Stat(dir)
	return err == nil && info.IsDir()
}

// SecretPath finds a secret file: an absolute path as it is, else a systemd credential, else beside the configuration.
func SecretPath(name, credentials, beside string) string {
	if filepath.IsAbs(name) {
		return name
	}
	if credentials != "" {
		path := filepath.Join(credentials, name)
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	return filepath.Join(beside, name)
}

// readPrivate reads a file that nobody may use beyond the bits of allow. The problem never holds any of its contents.
func readPrivate(file string, limit int64, allow os.FileMode) ([]byte, *Problem) {
	data, problem := readFile(file, limit)
	if problem != nil {
		return nil, problem
	}
	if info, err := os.Stat(file); err == nil && info.Mode().Perm()&^allow != 0 {
		who := "everybody"
		if info.Mode().Perm()&0o007 == 0 {
			who = "its group"
		}
		return nil, &Problem{
			Message: fmt.Sprintf("%s may use it (mode %#o)", who, info.Mode().Perm()),
			Remedy:  "chmod 0600 " + file,
		}
	}
	return data, nil
}

// ReadSecret reads a signing secret from a file as keygen writes it. The problem never holds any of the secret.
func ReadSecret(file string) (notify.Secret, *Problem) {
	data, problem := readPrivate(file, maxSecret, 0o770)
	if problem != nil {
		problem.File = file
		return notify.Secret{}, problem
	}
	secret, err := notify.ParseSecret(string(data))
	if err != nil {
		return notify.Secret{}, &Problem{
			File:    file,
			Message: err.Error(),
			Remedy:  `it holds "whsec_" and base64 of 24 to 64 bytes, as "paramedic keygen" prints it; two lines while you rotate`,
		}
	}
	return secret, nil
}

// ReadAuthorities reads the certificates of authorities.
func ReadAuthorities(file string) (string, *Problem) {
	data, problem := readFile(file, maxPEM)
	if problem != nil {
		problem.File = file
		return "", problem
	}
	authorities, err := notify.ParseAuthorities(data)
	if err != nil {
		return "", &Problem{File: file, Message: err.Error(), Remedy: "write the certificates of the consumer's authority into it, as PEM"}
	}
	return authorities, nil
}

// ReadCertificate reads a certificate and its key. The problem never holds any of the key.
func ReadCertificate(file, keyFile string) (notify.Credentials, *Problem) {
	certificate, problem := readFile(file, maxPEM)
	if problem != nil {
		problem.File = file
		return notify.Credentials{}, problem
	}
	key, problem := readPrivate(keyFile, maxPEM, 0o770)
	if problem != nil {
		problem.File = keyFile
		return notify.Credentials{}, problem
	}
	c, err := notify.ClientCertificate(certificate, key)
	if err != nil {
		return c, &Problem{File: file, Message: err.Error(), Remedy: "write a certificate and its key into the two files, as PEM"}
	}
	return c, nil
}

// ReadPassword reads the password of a user. The problem never holds any of it.
func ReadPassword(user, file string) (notify.Credentials, *Problem) {
	return readLine(file, func(line string) (notify.Credentials, error) { return notify.BasicCredentials(user, line) })
}

// ReadToken reads a token. The problem never holds any of it.
func ReadToken(file string) (notify.Credentials, *Problem) {
	return readLine(file, notify.BearerCredentials)
}

func readLine(file string, parse func(string) (notify.Credentials, error)) (notify.Credentials, *Problem) {
	data, problem := readPrivate(file, maxToken, 0o770)
	if problem != nil {
		problem.File = file
		return notify.Credentials{}, problem
	}
	c, err := parse(strings.TrimRight(string(data), "\r\n"))
	if err != nil {
		return c, &Problem{File: file, Message: err.Error(), Remedy: "write it into the file, alone on one line"}
	}
	return c, nil
}
