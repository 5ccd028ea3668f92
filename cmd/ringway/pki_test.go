package main

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ringway/control/pki"
)

func TestPKI(t *testing.T) {
	dir := t.TempDir()
	ca, out := filepath.Join(dir, "ca"), filepath.Join(dir, "etcd1")
	code, stdout, stderr := ringway(t, "pki", "init", "--dir", ca, "--trust-domain", "ringway.example")
	if want := "a CA for ringway.example is in " + ca + "\n"; code != 0 || stdout != want || stderr != "" {
		t.Fatalf("exit %d, %q, %q", code, stdout, stderr)
	}
	code, stdout, stderr = ringway(t, "pki", "issue", "--dir", ca, "--out", out, "--ttl", "2h", "--ip", "192.0.2.1", "--ip", "2001:db8::1", "--dns", "etcd1.example", "etcd", "etcd1")
	if want := "spiffe://ringway.example/etcd/etcd1 has serial "; code != 0 || !strings.HasPrefix(stdout, want) || !strings.HasSuffix(stdout, " in "+out+"\n") || stderr != "" {
		t.Fatalf("exit %d, %q, %q", code, stdout, stderr)
	}
	log, _ := newLogger(t.Output(), "info")
	s, err := pki.Open(pki.FilesIn(out), pki.Options{Log: log})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if left := time.Until(s.Expiry()); s.Err() != nil || left > 2*time.Hour || left < time.Hour {
		t.Errorf("%v, %v left", s.Err(), left)
	}
}

func TestPKIRefuses(t *testing.T) {
	dir := t.TempDir()
	ca := filepath.Join(dir, "ca")
	if code, _, stderr := ringway(t, "pki", "init", "--dir", ca, "--trust-domain", "ringway.example"); code != 0 {
		t.Fatal(stderr)
	}
	issue := func(more ...string) []string {
		return append([]string{"pki", "issue", "--dir", ca, "--out", filepath.Join(dir, "out")}, more...)
	}
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"pki", "init"}, exitUsage, "ringway: --dir is missing: name a directory for the CA"},
		{[]string{"pki", "init", "--dir", ca}, exitUsage, "ringway: --trust-domain is missing: "},
		{[]string{"pki", "init", "--dir", ca, "--trust-domain", "a b"}, exitFailure, `ringway: trust domain: "a b" is none: `},
		{[]string{"pki", "init", "--dir", ca, "--trust-domain", "ringway.example"}, exitFailure, "ringway: dir: " + ca + " holds a CA already: "},
		{[]string{"pki", "issue", "node", "n1"}, exitUsage, "ringway: --dir is missing: "},
		{[]string{"pki", "issue", "--dir", ca, "node", "n1"}, exitUsage, "ringway: --out is missing: "},
		{issue("node"), exitUsage, "ringway: accepts 2 arg(s), received 1"},
		{issue("boss", "n1"), exitFailure, `ringway: role: "boss" is not known: write node or`},
		{issue("node", "N1"), exitFailure, `ringway: name: "N1" is no name: `},
		{issue("--ip", "x", "etcd", "e1"), exitUsage, `ringway: --ip "x" is no address: `},
		{issue("--ttl", "1s", "node", "n1"), exitFailure, "ringway: ttl: 1s is too short: "},
		{issue("--ttl", "999999h", "node", "n1"), exitFailure, "ringway: ttl: the certificate would outlive its CA"},
	} {
		code, stdout, stderr := ringway(t, c.args...)
		if code != c.code || stdout != "" || !strings.HasPrefix(stderr, c.want) || strings.Count(stderr, "\n") != 1 {
			t.Errorf("%v: exit %d, %q, %q; want exit %d, %q", c.args, code, stdout, stderr, c.code, c.want)
		}
	}
}
