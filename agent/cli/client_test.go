package cli

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/paramedic-ha/paramedic/gossip/loopback"
)

// Whoever can't reach an agent is told what to do about it. All of these fail as they do in life, but for the permission, which root
// always has.
func TestWhoCantReachAnAgentIsToldWhatToDo(t *testing.T) {
	dir := t.TempDir()
	handler := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("{}")) })
	quiet := log.New(testWriter{t}, "", 0)
	secure := func(change func(*tls.Config)) *httptest.Server {
		s := httptest.NewUnstartedServer(handler)
		s.Config.ErrorLog = quiet
		s.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
		change(s.TLS)
		s.StartTLS()
		t.Cleanup(s.Close)
		return s
	}
	plainServer := httptest.NewServer(handler)
	t.Cleanup(plainServer.Close)
	unchanged := func(*tls.Config) {}
	tlsServer := secure(unchanged)
	authorities := filepath.Join(dir, "ca.crt")
	if err := os.WriteFile(authorities, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: tlsServer.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	over := secure(func(c *tls.Config) { c.Certificates = []tls.Certificate{expired(t, filepath.Join(dir, "over.crt"))} })
	asking := secure(func(c *tls.Config) { c.ClientAuth = tls.RequireAnyClientCert })
	left := filepath.Join(dir, "left.sock")
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: left, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	listener.SetUnlinkOnClose(false)
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	nobody := "http://" + loopback.Address(t)
	for name, c := range map[string]struct {
		server, ca, want string
	}{
		"no socket":         {"unix://" + filepath.Join(dir, "none.sock"), "", "systemctl start paramedic"},
		"a socket is left":  {"unix://" + left, "", "has ended and left the socket"},
		"nobody listens":    {nobody, "", "api.listen"},
		"unknown authority": {tlsServer.URL, "", "--server-ca-file"},
		"another name":      {strings.Replace(tlsServer.URL, "127.0.0.1", "localhost", 1), authorities, "a name that its certificate has"},
		"it is over":        {over.URL, filepath.Join(dir, "over.crt"), "give the agent a new certificate"},
		"it asks for one":   {asking.URL, authorities, "--server-cert-file"},
		"it speaks no TLS":  {strings.Replace(plainServer.URL, "http:", "https:", 1), "", "it does not speak TLS"},
		"it speaks TLS":     {strings.Replace(tlsServer.URL, "https:", "http:", 1), "", "the agent speaks TLS: write --server with https://"},
	} {
		t.Run(name, func(t *testing.T) {
			client, err := newClient(c.server, serverFlags{ServerCAFile: c.ca}, "test")
			if err != nil {
				t.Fatal(err)
			}
			err = client.get(t.Context(), "/v1/status", nil, nil)
			var ee *exitError
			if !errors.As(err, &ee) || ee.status != exitUnreachable || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v: want %q", err, c.want)
			}
		})
	}

	client, err := newClient("unix://"+left, serverFlags{}, "test")
	if err != nil {
		t.Fatal(err)
	}
	denied := client.unreachable(&net.OpError{Op: "dial", Net: "unix", Err: os.NewSyscallError("connect", syscall.EACCES)})
	if !strings.Contains(denied.Error(), "only root and the group of the socket may ask") {
		t.Errorf("without the permission: %v", denied)
	}
	if os.Getuid() == 0 {
		if err := os.Chown(left, 0, 1); err != nil { // daemon, on all of Debian and Fedora
			t.Fatal(err)
		}
		if got := joinGroup(left); got != "usermod -aG daemon USER, and log in anew" {
			t.Errorf("the group of the socket: %s", got)
		}
	}
	if got := joinGroup("/nowhere/at/all"); !strings.Contains(got, "the group that the agent runs as") {
		t.Errorf("no group can be seen: %s", got)
	}
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(b []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(b)))
	return len(b), nil
}

// expired makes a certificate that is over, and its file.
func expired(t *testing.T, file string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(-time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}
