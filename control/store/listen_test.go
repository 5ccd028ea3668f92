package store

import (
	"context"
	"crypto/tls"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"ringway/control/pki"
)

// issue makes a CA in dir, unless there is one, and a certificate of it.
func issue(t *testing.T, ca string, r pki.Request) pki.Files {
	t.Helper()
	if _, err := os.Stat(ca); err != nil {
		if err := pki.InitCA(ca, "etcd.test", 48*time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	out := filepath.Join(t.TempDir(), "tls")
	if _, err := pki.Issue(ca, out, r); err != nil {
		t.Fatal(err)
	}
	return pki.FilesIn(out)
}

func clientTLS(t *testing.T, files pki.Files) *tls.Config {
	t.Helper()
	source, err := pki.Open(files, pki.Options{Log: testLog(t), HostNames: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { source.Close() })
	return source.HostTLS()
}

// asks returns whether an etcd at a URL answers.
func asks(t *testing.T, url string, config *tls.Config) error {
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{url}, TLS: config, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	_, err = client.Get(ctx, clusterKey)
	return err
}

// TestListenWithCertificates: the embedded etcd answers those with a certificate of
// its CA, by TLS 1.3, and nobody else.
func TestListenWithCertificates(t *testing.T) {
	t.Parallel() // it mostly waits
	dir := t.TempDir()
	ca, otherCA := filepath.Join(dir, "ca"), filepath.Join(dir, "other")
	local := []netip.Addr{netip.MustParseAddr("127.0.0.1")}
	server := issue(t, ca, pki.Request{Role: pki.RoleEtcd, Name: "embedded", Addresses: local})
	mine := clientTLS(t, issue(t, ca, pki.Request{Role: pki.RoleController, Name: "c1"}))
	stranger := clientTLS(t, issue(t, otherCA, pki.Request{Role: pki.RoleController, Name: "c1"}))
	stranger.RootCAs = mine.RootCAs
	old := mine.Clone()
	old.MinVersion, old.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	anonymous := &tls.Config{RootCAs: mine.RootCAs, MinVersion: tls.VersionTLS13}

	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	listener.Close()
	options := testOptions(t)
	options.Embedded.Listen = "https://" + address
	options.Embedded.ListenTLS = TLSFiles(server)
	open(t, options)

	for name, c := range map[string]struct {
		url    string
		config *tls.Config
		taken  bool
	}{
		"with a certificate": {"https://" + address, mine, true},
		"of another CA":      {"https://" + address, stranger, false},
		"TLS 1.2":            {"https://" + address, old, false},
		"none":               {"https://" + address, anonymous, false},
		"plain text":         {"http://" + address, nil, false},
	} {
		if err := asks(t, c.url, c.config); (err == nil) != c.taken {
			t.Errorf("%s: %v", name, err)
		}
	}
	s := open(t, Options{Endpoints: []string{"https://" + address}, TLS: mine, Decode: number, Log: testLog(t)})
	update(t, s, increment("a"))
}

// TestListenSocket: only its owner may use it.
func TestListenSocket(t *testing.T) {
	socket := socketPath(t)
	options := testOptions(t)
	options.Embedded.Listen = "unix://" + socket
	open(t, options)
	info, err := os.Stat(socket)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the socket has mode %v, %v; want 0600", info.Mode(), err)
	}
	if err := asks(t, "unix://"+socket, nil); err != nil {
		t.Error(err)
	}
}
