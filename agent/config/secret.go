package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/paramedic-ha/paramedic/notify"
)

// loadSecrets fills every Subscription.Secret from its file. credentials is systemd's credential directory, or "".
func (p *parser) loadSecrets(cfg *Config, credentials string) {
	for i := range cfg.Notify.Subscriptions {
		s := &cfg.Notify.Subscriptions[i]
		if s.SecretFile == "" {
			continue
		}
		file := secretPath(s.SecretFile, credentials, filepath.Dir(p.file))
		secret, problem := ReadSecret(file)
		if problem != nil {
			if _, err := os.Stat(file); errors.Is(err, os.ErrNotExist) && !filepath.IsAbs(s.SecretFile) {
				problem.Remedy = "put it there, or make it a systemd credential (LoadCredential=); \"paramedic keygen --file\" makes one"
			}
			p.add(fmt.Sprintf("notify.subscriptions[%d].secret_file", i), "secret file "+file+": "+problem.Message, problem.Remedy)
			continue
		}
		s.Secret = secret
	}
}

// secretPath finds a secret file: an absolute path as it is, else a systemd credential, else beside the configuration.
func secretPath(name, credentials, beside string) string {
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
func readPrivate(file string, allow os.FileMode) ([]byte, *Problem) {
	data, problem := readFile(file, maxSecret)
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
	data, problem := readPrivate(file, 0o770)
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
