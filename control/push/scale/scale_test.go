package scale

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/goleak"
)

var (
	nodes     = flag.Int("nodes", 100, "nodes of the biggest cluster")
	endpoints = flag.Int("endpoints", 2000, "endpoints of the biggest cluster; smaller ones have as many of each node")
	policies  = flag.Int("policies", 50, "policies of the biggest cluster")
	full      = flag.Int("full", 100, "one node in so many is an agent's whole way; 0: none")
	repeat    = flag.Int("repeat", 5, "how often each change is made")
	sizes     = flag.String("sizes", "", "numbers of nodes to measure, as in 100,500,1000; by default that of -nodes")
)

// The environment of a process that is the nodes.
const socketVariable, nodesVariable, fullVariable = "RINGWAY_SCALE_SOCKET", "RINGWAY_SCALE_NODES", "RINGWAY_SCALE_FULL"

func TestMain(m *testing.M) {
	if socket := os.Getenv(socketVariable); socket != "" {
		os.Exit(beNodes(socket))
	}
	goleak.VerifyTestMain(m)
}

// beNodes follows until the parent closes stdin or says to stop.
func beNodes(socket string) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		stop()
	}()
	n, err := strconv.Atoi(os.Getenv(nodesVariable))
	every, fullErr := strconv.Atoi(os.Getenv(fullVariable))
	if err = errors.Join(err, fullErr); err == nil {
		err = FollowAll(ctx, socket, n, every, slog.New(slog.DiscardHandler))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// elsewhere has the nodes follow in a process of their own.
func elsewhere(ctx context.Context, socket string, nodes int) error {
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env = append(os.Environ(), socketVariable+"="+socket, nodesVariable+"="+strconv.Itoa(nodes), fullVariable+"="+strconv.Itoa(*full))
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	stdin, err := cmd.StdinPipe() // closed, whatever becomes of this process
	if err != nil {
		return err
	}
	defer stdin.Close()
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	said := ""
	for lines := bufio.NewScanner(stderr); lines.Scan(); {
		said = lines.Text()
	}
	if err := cmd.Wait(); err != nil && ctx.Err() == nil {
		return errors.Join(err, errors.New(said))
	}
	return nil
}

// TestScale measures, and checks that every node has verified and answered every
// change. Times are printed, not judged: -v shows them.
func TestScale(t *testing.T) {
	list := *sizes
	if list == "" {
		list = strconv.Itoa(*nodes)
	}
	var results []Result
	for s := range strings.SplitSeq(list, ",") {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 || n > *nodes {
			t.Fatalf("-sizes: %q is not from 1 to %d", s, *nodes)
		}
		r, err := Run(context.Background(), Options{
			Nodes:     n,
			Endpoints: *endpoints * n / *nodes,
			Policies:  max(1, *policies*n / *nodes),
			Repeat:    *repeat,
			Dir:       t.TempDir(),
			Follow:    elsewhere,
			Log:       slog.New(slog.DiscardHandler),
		})
		if err != nil {
			t.Fatal(err)
		}
		results = append(results, r)
		if r.Node.Bytes > 4096 || r.Pod.Bytes > 4096 {
			t.Errorf("%d nodes: a node added costs %.0f bytes per node and an endpoint %.0f: that is no change but a set", n, r.Node.Bytes, r.Pod.Bytes)
		}
	}
	t.Logf("\n%s", Table(results))
}
