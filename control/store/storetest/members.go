// Package storetest runs etcd members as processes of their own, to be killed and
// brought back by tests.
package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// readyAfter is how long members may take to answer.
const readyAfter = 30 * time.Second

// Members is a cluster on loopback addresses, in plain text. It is used by one
// goroutine.
type Members struct {
	Endpoints []string // client URLs, by member
	Dirs      []string // data directories, by member

	binary  string
	flags   []string
	cluster string
	peers   []string
	running []*exec.Cmd // nil: it does not run
}

// Build makes etcd's own server from its module and returns the binary's path, which
// is in Go's build cache.
func Build(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "tool", "-n", "go.etcd.io/etcd/server/v3").Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			err = fmt.Errorf("%w: %s", err, exit.Stderr)
		}
		return "", fmt.Errorf("build etcd: %w", err)
	}
	lines := strings.Fields(string(out))
	return lines[len(lines)-1], nil
}

// StartMembers starts a cluster of n members, waits until it answers, and ends it
// with the test. flags go to every member.
func StartMembers(t testing.TB, n int, flags ...string) *Members {
	t.Helper()
	binary, err := Build(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	m, err := Start(binary, t.TempDir(), n, flags...)
	if m != nil {
		t.Cleanup(m.Stop)
	}
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// Start starts a cluster of n members with their data and logs below dir. Stop is to
// be called on what it returns, even with an error.
func Start(binary, dir string, n int, flags ...string) (*Members, error) {
	m := &Members{binary: binary, flags: flags, running: make([]*exec.Cmd, n)}
	var members []string
	for i := range n {
		ports, err := freePorts(2)
		if err != nil {
			return m, err
		}
		m.Endpoints = append(m.Endpoints, fmt.Sprintf("http://127.0.0.1:%d", ports[0]))
		m.peers = append(m.peers, fmt.Sprintf("http://127.0.0.1:%d", ports[1]))
		m.Dirs = append(m.Dirs, filepath.Join(dir, fmt.Sprintf("m%d", i)))
		members = append(members, fmt.Sprintf("m%d=%s", i, m.peers[i]))
	}
	m.cluster = strings.Join(members, ",")
	for i := range n {
		if err := m.Restart(i); err != nil {
			return m, err
		}
	}
	return m, m.WaitReady()
}

// freePorts returns ports that nobody listened on a moment ago.
func freePorts(n int) ([]int, error) {
	var ports []int
	for range n {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, fmt.Errorf("find a free port: %w", err)
		}
		defer listener.Close()
		ports = append(ports, listener.Addr().(*net.TCPAddr).Port)
	}
	return ports, nil
}

// Restart starts a member that does not run, on the data that it left.
func (m *Members) Restart(i int) error {
	if m.running[i] != nil {
		return fmt.Errorf("start member %d: it runs", i)
	}
	log, err := os.OpenFile(m.logFile(i), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("start member %d: %w", i, err)
	}
	defer log.Close()
	cmd := exec.Command(m.binary, append([]string{
		"--name", fmt.Sprintf("m%d", i), "--data-dir", m.Dirs[i], "--log-level", "warn",
		"--listen-client-urls", m.Endpoints[i], "--advertise-client-urls", m.Endpoints[i],
		"--listen-peer-urls", m.peers[i], "--initial-advertise-peer-urls", m.peers[i],
		"--initial-cluster", m.cluster, "--initial-cluster-state", "new",
	}, m.flags...)...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start member %d: %w", i, err)
	}
	m.running[i] = cmd
	return nil
}

func (m *Members) logFile(i int) string { return m.Dirs[i] + ".log" }

// Kill ends a member without a warning (SIGKILL). One that does not run is left so.
func (m *Members) Kill(i int) {
	if cmd := m.running[i]; cmd != nil {
		_ = cmd.Process.Kill() // it may have ended by itself
		_ = cmd.Wait()         // and was killed, so that is an error
		m.running[i] = nil
	}
}

// PID is the process of a member that runs.
func (m *Members) PID(i int) int { return m.running[i].Process.Pid }

// Pause stops a member (SIGSTOP) with its connections open, and Resume lets it go on.
func (m *Members) Pause(i int) error { return m.running[i].Process.Signal(syscall.SIGSTOP) }

// Resume is the end of Pause.
func (m *Members) Resume(i int) error { return m.running[i].Process.Signal(syscall.SIGCONT) }

// Stop kills all members.
func (m *Members) Stop() {
	for i := range m.running {
		m.Kill(i)
	}
}

// WaitReady returns when every member that runs answers.
func (m *Members) WaitReady() error {
	ctx, cancel := context.WithTimeout(context.Background(), readyAfter)
	defer cancel()
	for i, cmd := range m.running {
		if cmd == nil {
			continue
		}
		if err := m.ask(ctx, i); err != nil {
			log, _ := os.ReadFile(m.logFile(i)) // it only helps
			lines := bytes.Split(bytes.TrimSpace(log), []byte("\n"))
			return fmt.Errorf("wait for member %d: %w\n%s", i, err, bytes.Join(lines[max(0, len(lines)-5):], []byte("\n")))
		}
	}
	return nil
}

// ask asks until a member answers.
func (m *Members) ask(ctx context.Context, i int) error {
	client, err := m.client(m.Endpoints[i])
	if err != nil {
		return err
	}
	defer client.Close()
	for {
		attempt, cancel := context.WithTimeout(ctx, time.Second)
		_, err := client.Get(attempt, "ready")
		cancel()
		if err == nil || ctx.Err() != nil {
			return err
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (m *Members) client(endpoints ...string) (*clientv3.Client, error) {
	client, err := clientv3.New(clientv3.Config{Endpoints: endpoints, Logger: zap.NewNop(), DialTimeout: time.Second})
	if err != nil {
		return nil, fmt.Errorf("connect to %v: %w", endpoints, err)
	}
	return client, nil
}

// Leader returns which member leads.
func (m *Members) Leader() (int, error) {
	ctx, cancel := context.WithTimeout(context.Background(), readyAfter)
	defer cancel()
	client, err := m.client(m.Endpoints...)
	if err != nil {
		return 0, err
	}
	defer client.Close()
	for ctx.Err() == nil {
		leader := slices.IndexFunc(m.Endpoints, func(endpoint string) bool {
			attempt, cancel := context.WithTimeout(ctx, time.Second)
			defer cancel()
			status, err := client.Status(attempt, endpoint)
			return err == nil && status.Leader == status.Header.MemberId
		})
		if leader >= 0 {
			return leader, nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	return 0, errors.New("find the leader: there is none")
}
