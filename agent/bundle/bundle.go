// Package bundle gathers what a bug report needs, on the host itself, in one archive that can be given away: secrets do not get in.
//
// Three rules keep them out, one after the other. By construction: of the API's answers the fields that this version knows, of the
// configuration the keys that there are, of systemd, /proc and /sys what is named here; never an environment, a command line, or the
// contents of a file that a key names. By value: what the secret files of the configuration hold is searched for in everything, in
// any encoding. By pattern: what looks like a secret, and of URLs all but scheme, host and port.
package bundle

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Limits.
const (
	Deadline = 10 * time.Second // of each part; all are gathered at once
	maxPart  = 8 << 20          // bytes of each part: of what is more, the newest is kept
)

// Agent is the one that is asked.
type Agent interface {
	// Get reads JSON into answer.
	Get(ctx context.Context, path string, query url.Values, answer any) error
	// Text reads up to limit bytes of text.
	Text(ctx context.Context, path string, limit int64) (string, error)
	// PID is the process that listens; 0: that is not known.
	PID(ctx context.Context) int
	// Name is for people.
	Name() string
}

// Options say what is gathered.
type Options struct {
	Version    string // of the command that gathers
	Now        time.Time
	ConfigFile string
	LogFile    string // empty: systemd's journal
	LogLines   int    // the newest so many
	Unit       string // of systemd
	Agent      Agent
	Overview   func(context.Context) (string, error) // what an operator would look at first
	Values     []string                              // further secrets
	Deadline   time.Duration                         // 0: Deadline
}

// Part is one file of a bundle.
type Part struct {
	Name    string `json:"name"`
	From    string `json:"from"`
	Bytes   int    `json:"bytes"`
	Removed int    `json:"removed"` // places where something was taken out
	Note    string `json:"note"`    // what else is to be known of it: that older things are left out
	Missing string `json:"missing"` // why it is not there; empty: it is

	text string
}

// Bundle is what was gathered.
type Bundle struct {
	Parts   []Part
	Warning string // of what could not be searched for; empty: of nothing

	options  Options
	searched int // values of secrets
}

// part is how one is gathered. Its text is redacted already when its parts are typed, and redacted as a text in any case.
type part struct {
	name, from string
	gather     func(context.Context) (text, note string, err error)
}

// Gather returns when everything is there, or its time is over: what hangs costs a part of the bundle, not the bundle.
func Gather(ctx context.Context, o Options) *Bundle {
	if o.Deadline == 0 {
		o.Deadline = Deadline
	}
	b := &Bundle{options: o}
	redactor := NewRedactor()
	cfg := &configuration{file: o.ConfigFile, redactor: redactor, credentials: "/run/credentials/" + o.Unit + ".service"}
	told := within(ctx, o.Deadline, func(context.Context) (func() (string, error), error) { return cfg.read(), nil })
	values, dir := o.Values, ""
	switch {
	case told.err != nil: // it may still be at it
		b.Warning = "the secrets of the configuration are not known (" + o.ConfigFile + ": " + told.err.Error() + "): nothing was searched for by its value"
	default:
		values, dir = append(values, cfg.values...), cfg.dir
		b.searched = len(cfg.values)
		if len(cfg.unread) > 0 {
			b.Warning = fmt.Sprintf("this user can't read %d of the secret files of the configuration (%s), and what they hold was not searched for: run it as root, or as the agent's user",
				len(cfg.unread), strings.Join(slices.Compact(slices.Sorted(slices.Values(cfg.unread))), ", "))
		}
	}
	redactor.Add(values...)

	parts := b.table(dir, told.value, redactor)
	b.Parts = make([]Part, len(parts))
	var wg sync.WaitGroup
	for i, p := range parts {
		wg.Go(func() {
			got := within(ctx, o.Deadline, func(ctx context.Context) ([2]string, error) {
				text, note, err := p.gather(ctx)
				if err != nil {
					return [2]string{}, err
				}
				return [2]string{redactor.Text(text), note}, nil
			})
			one := Part{Name: p.name, From: p.from}
			if got.err != nil {
				one.Missing = redactor.Text(got.err.Error())
			} else {
				one.text, one.Note = newest(got.value[0]), redactor.Text(got.value[1])
				if len(one.text) < len(got.value[0]) {
					one.Note = strings.TrimPrefix(one.Note+"; ", "; ") + fmt.Sprintf("it was longer than %d MiB: the end of it is here", maxPart>>20)
				}
				one.Bytes, one.Removed = len(one.text), strings.Count(one.text, removed)
			}
			b.Parts[i] = one
		})
	}
	wg.Wait()
	return b
}

type result[T any] struct {
	value T
	err   error
}

// within runs f for so long at most. Who does not listen to its context is left behind: a read that the kernel does not end.
func within[T any](ctx context.Context, limit time.Duration, f func(context.Context) (T, error)) result[T] {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	done := make(chan result[T], 1)
	go func() {
		value, err := f(ctx)
		done <- result[T]{value, err}
	}()
	select {
	case r := <-done:
		if r.err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
			r.err = fmt.Errorf("it took longer than %v: %w", limit, r.err)
		}
		return r
	case <-ctx.Done():
		select { // it may have ended by the deadline just now
		case r := <-done:
			if r.err == nil {
				return r
			}
		case <-time.After(limit / 20):
		}
		if ctx.Err() == context.Canceled {
			return result[T]{err: errors.New("it was interrupted")}
		}
		return result[T]{err: fmt.Errorf("it took longer than %v", limit)}
	}
}

// newest is the end of a text that is too long, from the beginning of a line.
func newest(s string) string {
	if len(s) <= maxPart {
		return s
	}
	s = s[len(s)-maxPart:]
	if i := strings.IndexByte(s, '\n'); i >= 0 {
		s = s[i+1:]
	}
	return s
}

func indented(v any) (string, error) {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return "", fmt.Errorf("write the answer: %w", err)
	}
	return string(data) + "\n", nil
}

// manifestHead says how secrets were kept out.
const manifestHead = `What was taken out, and how

- By construction: of the agent's answers there are the fields that this version knows; of the configuration the keys that there are,
  without comments; of systemd, /proc and /sys what is named below. No environment and no command line is read, and no file that a key
  names is included. Of a *_file key there is the path and who may use it if there is such a file, else nothing: it may be the secret itself.
  Users of passwords are left out.
- By value: what the secret files of the configuration hold, and texts under keys that there are not, in base64, hexadecimal digits
  and as URLs, JSON and Go write them. Of less than 6 bytes nothing is searched for.
- By pattern: whsec_…, Bearer and Basic, values of names like password, secret, token, api_key, authorization and cookie, PEM blocks, 40 and more
  hexadecimal digits, 32 and more characters of both cases and digits; of URLs user, path, query and fragment.
- Each place says (removed).

Not taken out are names and addresses: of hosts, domains, projects, subscriptions and consumers, and who said what in the audit log.
Read it before you give it away.
`

// manifest is the text of the first file.
func (b *Bundle) manifest() string {
	var m strings.Builder
	fmt.Fprintf(&m, "paramedic bundle of %s, by paramedic %s as uid %d\n\n", b.options.Now.UTC().Format(time.RFC3339), b.options.Version, os.Getuid())
	m.WriteString(manifestHead + "\n")
	fmt.Fprintf(&m, "Secrets that were searched for by their values: %d\n", b.searched)
	if b.Warning != "" {
		fmt.Fprintf(&m, "BEWARE: %s\n", b.Warning)
	}
	m.WriteString("\nWhat is here\n\n")
	for _, p := range b.Parts {
		if p.Missing == "" {
			fmt.Fprintf(&m, "%s\n    from: %s\n    %d bytes, something was taken out in %d places\n", p.Name, p.From, p.Bytes, p.Removed)
			if p.Note != "" {
				fmt.Fprintf(&m, "    %s\n", p.Note)
			}
		}
	}
	m.WriteString("\nWhat is not here, and why\n\n")
	reason := ""
	for _, p := range b.Parts {
		if p.Missing == "" {
			continue
		}
		fmt.Fprintf(&m, "%s\n    from: %s\n", p.Name, p.From)
		if p.Missing == reason {
			m.WriteString("    as above\n")
		} else {
			fmt.Fprintf(&m, "    %s\n", p.Missing)
		}
		reason = p.Missing
	}
	return m.String()
}

// WriteFile writes the archive: as a whole or not at all, for its owner alone, and over no other file.
func (b *Bundle) WriteFile(path string) (size int64, err error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".paramedic-bundle-*") // mode 0600
	if err != nil {
		return 0, fmt.Errorf("write the bundle: %w", err)
	}
	defer func() { _ = os.Remove(f.Name()) }() // when it was put in its place there is none
	defer f.Close()
	err = b.write(f, strings.TrimSuffix(filepath.Base(path), ".tar.gz"))
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		size, err = f.Seek(0, io.SeekCurrent)
	}
	if err != nil {
		return 0, fmt.Errorf("write the bundle %s: %w", path, err)
	}
	err = unix.Renameat2(unix.AT_FDCWD, f.Name(), unix.AT_FDCWD, path, unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) { // a file system that can't
		err = os.Link(f.Name(), path)
	}
	if errors.Is(err, os.ErrExist) {
		return 0, fmt.Errorf("%s is there already and is not overwritten: name another file with --file", path)
	}
	if err != nil {
		return 0, fmt.Errorf("put the bundle at %s: %w", path, err)
	}
	return size, nil
}

func (b *Bundle) write(w io.Writer, dir string) error {
	zip := gzip.NewWriter(w)
	archive := tar.NewWriter(zip)
	add := func(name, text string) error {
		err := archive.WriteHeader(&tar.Header{Name: dir + "/" + name, Mode: 0o600, Size: int64(len(text)), ModTime: b.options.Now.Truncate(time.Second), Format: tar.FormatPAX})
		if err != nil {
			return err
		}
		_, err = io.WriteString(archive, text)
		return err
	}
	if err := add("MANIFEST", b.manifest()); err != nil {
		return err
	}
	for _, p := range b.Parts {
		if p.Missing == "" {
			if err := add(p.Name, p.text); err != nil {
				return err
			}
		}
	}
	return errors.Join(archive.Close(), zip.Close())
}
