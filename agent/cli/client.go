package cli

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/paramedic-ha/paramedic/agent/api"
	"github.com/paramedic-ha/paramedic/agent/config"
)

const (
	// requestTimeout covers a subscription whose callback is verified, and a test notification, the slowest calls.
	requestTimeout = 40 * time.Second
	maxAnswer      = 64 << 20
	maxStreamLine  = 4 << 20
	// streamSilence is how long a stream may say nothing; the agent's heartbeat comes several times as often.
	streamSilence = 60 * time.Second
)

// client asks one agent over its API.
type client struct {
	http  *http.Client
	base  string // what stands before /v1
	name  string // of the agent, for errors
	agent string // User-Agent
	token string // empty: none is shown
}

// newClient reads --server: unix:///path, http:// or https://; and what it is shown over TCP.
func newClient(server string, f serverFlags, version string) (*client, error) {
	u, err := url.Parse(server)
	c := &client{name: server, agent: "paramedic-cli/" + version}
	transport := &http.Transport{Proxy: nil, MaxIdleConns: 1}
	if err == nil && u.Scheme != "unix" { // whom the socket lets in needs nothing
		if err := c.identify(u, f, transport); err != nil {
			return nil, err
		}
	}
	switch {
	case err == nil && u.Scheme == "unix" && u.Host == "" && filepath.IsAbs(u.Path):
		c.base = "http://paramedic"
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", u.Path)
		}
	case err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "":
		c.base = strings.TrimSuffix(u.Scheme+"://"+u.Host+u.EscapedPath(), "/")
	default:
		return nil, fmt.Errorf("--server %q: want unix:///path or https://host:port", server)
	}
	c.http = &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return c, nil
}

// identify reads what is shown to an agent over TCP, and how its own certificate is judged.
func (c *client) identify(server *url.URL, f serverFlags, transport *http.Transport) error {
	if f.ServerTokenFile != "" {
		if addr, err := netip.ParseAddr(server.Hostname()); server.Scheme != "https" && server.Hostname() != "localhost" && (err != nil || !addr.IsLoopback()) {
			return fmt.Errorf("--server %q: a token is shown over https only: everybody on the way could read it", c.name)
		}
		token, problem := config.ReadAPIToken(f.ServerTokenFile)
		if problem != nil {
			return fmt.Errorf("token file %s: %s: %s", f.ServerTokenFile, problem.Message, problem.Remedy)
		}
		c.token = token
	}
	secure := &tls.Config{MinVersion: tls.VersionTLS12}
	transport.TLSClientConfig = secure
	if f.ServerCAFile != "" {
		pool, problem := config.ReadCertificates(f.ServerCAFile)
		if problem != nil {
			return fmt.Errorf("file of certificates %s: %s", f.ServerCAFile, problem.Message)
		}
		secure.RootCAs = pool
	}
	if f.ServerCertFile+f.ServerKeyFile != "" {
		pair, err := tls.LoadX509KeyPair(f.ServerCertFile, f.ServerKeyFile)
		if err != nil {
			return fmt.Errorf("certificate %q and key %q: %w", f.ServerCertFile, f.ServerKeyFile, err)
		}
		secure.Certificates = []tls.Certificate{pair}
	}
	return nil
}

func (c *client) get(ctx context.Context, path string, query url.Values, answer any) error {
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	return c.do(ctx, http.MethodGet, path, nil, answer)
}

// do sends one request. answer may be nil. An error is an exitError: 3 when the agent can't be reached, else 1.
func (c *client) do(ctx context.Context, method, path string, body, answer any) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	response, err := c.send(ctx, method, path, body, nil)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	data, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	switch {
	case err != nil:
		return &exitError{exitUnreachable, fmt.Errorf("read the answer of the agent at %s: %w", c.name, err)}
	case len(data) > maxAnswer:
		return fmt.Errorf("the answer of the agent at %s is larger than %d bytes", c.name, maxAnswer)
	case answer == nil:
		return nil
	}
	if err := json.Unmarshal(data, answer); err != nil {
		return fmt.Errorf("%s %s: the agent at %s answers what is not expected (is it paramedic, and as new as this command?): %w",
			method, path, c.name, err)
	}
	return nil
}

// send returns a 2xx response, or an error that says why not.
func (c *client) send(ctx context.Context, method, path string, body any, header http.Header) (*http.Response, error) {
	var reader io.Reader
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			return nil, fmt.Errorf("write the request: %w", err)
		}
		reader = bytes.NewReader(data)
	}
	request, err := http.NewRequestWithContext(ctx, method, c.base+path, reader)
	if err != nil {
		return nil, fmt.Errorf("make the request: %w", err)
	}
	for name, values := range header {
		request.Header[name] = values
	}
	request.Header.Set("User-Agent", c.agent)
	if c.token != "" {
		request.Header.Set("Authorization", "Bearer "+c.token)
	}
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := c.http.Do(request)
	if err != nil {
		return nil, c.unreachable(err)
	}
	if response.StatusCode/100 == 2 {
		return response, nil
	}
	defer response.Body.Close()
	return nil, refusal(response)
}

func (c *client) unreachable(err error) error {
	var ue *url.Error
	if errors.As(err, &ue) {
		err = ue.Err // its text names the invented host of the socket
	}
	return &exitError{exitUnreachable, fmt.Errorf("the agent at %s can't be reached: %w (%s)", c.name, err, c.remedy(err))}
}

// remedy says what to do about an agent that can't be reached.
func (c *client) remedy(err error) string {
	var (
		authority x509.UnknownAuthorityError
		name      x509.HostnameError
		invalid   x509.CertificateInvalidError
		remote    *net.OpError
		record    tls.RecordHeaderError
	)
	path, isSocket := strings.CutPrefix(c.name, "unix://")
	switch {
	case isSocket && errors.Is(err, fs.ErrPermission):
		return "only root and the group of the socket may ask: " + joinGroup(path) + ", or ask as root"
	case isSocket && errors.Is(err, fs.ErrNotExist):
		return "is it running? systemctl start paramedic, or paramedic run; another one: --server"
	case isSocket && errors.Is(err, syscall.ECONNREFUSED):
		return "its agent has ended and left the socket: systemctl start paramedic, or paramedic run; another one: --server"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "is it running, with api.listen in its configuration? Another one: --server"
	case errors.As(err, &authority):
		return "name who issues the agents' certificates with --server-ca-file"
	case errors.As(err, &name):
		return "write --server with a name that its certificate has, or give the agent one for this name (api.tls)"
	case errors.As(err, &invalid):
		return "give the agent a new certificate (api.tls.cert_file) and reload it; is the clock of this host right?"
	case errors.As(err, &remote) && remote.Op == "remote error": // an alert of TLS
		return "the agent does not take what this command shows: a certificate by --server-cert-file and --server-key-file of an authority of its api.tls.client_ca_file"
	case errors.As(err, &record), strings.Contains(err.Error(), "server gave HTTP response to HTTPS client"):
		return "it does not speak TLS: write --server with http://, on loopback only"
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, syscall.ETIMEDOUT), errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return "is the host up, and does a firewall let this through? Another agent knows the same: --server"
	}
	return "is it running? Another one: --server"
}

// joinGroup says how to come into the group of a socket. Whoever may not look into its directory goes by that of the directory.
func joinGroup(path string) string {
	for _, file := range []string{path, filepath.Dir(path)} {
		info, err := os.Stat(file)
		if err != nil {
			continue
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok {
			gid := strconv.FormatUint(uint64(st.Gid), 10)
			if g, err := user.LookupGroupId(gid); err == nil && st.Gid != 0 {
				return "usermod -aG " + g.Name + " USER, and log in anew"
			}
		}
	}
	return "join the group that the agent runs as, and log in anew"
}

// refusal is the problem (RFC 9457) that a response tells, or its status.
func refusal(response *http.Response) error {
	data, err := io.ReadAll(io.LimitReader(response.Body, 64<<10))
	var p api.Problem
	if err != nil || json.Unmarshal(data, &p) != nil || p.Title == "" {
		if strings.Contains(string(data), "HTTP request to an HTTPS server") {
			return &exitError{exitUnreachable, errors.New("the agent speaks TLS: write --server with https://")}
		}
		return fmt.Errorf("the agent answers %s", response.Status)
	}
	if p.Detail == "" {
		return errors.New(p.Title)
	}
	if response.StatusCode == http.StatusNotFound && strings.HasPrefix(p.Detail, "nothing is served at ") {
		return fmt.Errorf("the agent does not know this call: it is older than this command (paramedic status shows its version), or --server names more than its address: %s", p.Detail)
	}
	if response.StatusCode == http.StatusUnauthorized {
		p.Detail += " (--server-token-file FILE, or --server-cert-file FILE with --server-key-file FILE)"
	}
	return fmt.Errorf("%s: %s", p.Title, p.Detail)
}

// streamEvent is one server-sent event; without data it only says where the stream is.
type streamEvent struct{ name, id, data string }

// stream calls f for each event after lastID until the stream or ctx ends; the error is never nil.
func (c *client) stream(ctx context.Context, path, lastID string, f func(streamEvent) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	silence := time.AfterFunc(streamSilence, func() { cancel(errors.New("the agent says nothing any more")) })
	defer silence.Stop()
	header := http.Header{"Accept": {"text/event-stream"}}
	if lastID != "" {
		header.Set("Last-Event-ID", lastID)
	}
	response, err := c.send(ctx, http.MethodGet, path, nil, header)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	lines := bufio.NewScanner(response.Body)
	lines.Buffer(nil, maxStreamLine)
	var e streamEvent
	for lines.Scan() {
		silence.Reset(streamSilence)
		field, value, _ := strings.Cut(lines.Text(), ":")
		value = strings.TrimPrefix(value, " ")
		switch field {
		case "event":
			e.name = value
		case "id":
			e.id = value
		case "data":
			e.data += value
		case "": // an empty line ends an event; ": …" is a comment
			if lines.Text() != "" {
				continue
			}
			if e != (streamEvent{}) {
				if err := f(e); err != nil {
					return err
				}
			}
			e = streamEvent{}
		}
	}
	if err := reason(ctx, lines.Err()); err != nil {
		return fmt.Errorf("the stream of the agent at %s broke: %w", c.name, err)
	}
	return fmt.Errorf("the agent at %s has ended the stream", c.name)
}

// reason prefers why a context was cancelled to the error that this led to.
func reason(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}
