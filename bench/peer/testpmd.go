package peer

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"ringway/bench/chain"
)

// testpmdStart is how long testpmd may take to forward.
const testpmdStart = 15 * time.Second

// testpmdReady is what it prints then, and waits for a key.
const testpmdReady = "Press enter to exit"

// Testpmd is DPDK's own forwarder over its AF_XDP driver, passing frames as they
// are: a witness in C that the raw limit is the limit of AF_XDP and not of Go.
type Testpmd struct {
	path    string
	process *chain.Process
}

// NewTestpmd finds dpdk-testpmd; ErrMissing if it is not installed.
func NewTestpmd() (*Testpmd, error) {
	path, err := exec.LookPath("dpdk-testpmd")
	if err != nil {
		return nil, fmt.Errorf("%w: testpmd (on Debian: apt install dpdk-dev librte-net-af-xdp23)", ErrMissing)
	}
	return &Testpmd{path: path}, nil
}

// Name of the column.
func (*Testpmd) Name() string { return TestpmdName }

// Output is what was offered.
func (*Testpmd) Output(t chain.Traffic) chain.Expect { return t.Passed() }

// Start runs testpmd until it forwards, and pauses it.
func (t *Testpmd) Start(ctx context.Context, env chain.Env) error {
	// Its libbpf predates memory accounting by cgroups. Where the limit may not be
	// raised, it does without its dispatcher.
	unlimited := unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}
	_ = unix.Setrlimit(unix.RLIMIT_MEMLOCK, &unlimited)
	// Into a pipe it would write its lines when there are 4 KiB of them.
	cmd := exec.Command("stdbuf", append([]string{"-oL", t.path}, testpmdArgs(env)...)...)
	cmd.Env = append(os.Environ(), "RUNTIME_DIRECTORY="+env.Dir) // instead of /var/run/dpdk
	var err error
	if t.process, err = env.NS.Start(cmd); err != nil {
		return err
	}
	deadline := time.After(testpmdStart)
	for !strings.Contains(t.process.Output(), testpmdReady) {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.process.Done():
			return fmt.Errorf("testpmd ended: %s", t.process.Output())
		case <-deadline:
			return fmt.Errorf("testpmd does not forward after %s: %s", testpmdStart, t.process.Output())
		case <-time.After(20 * time.Millisecond):
		}
	}
	return t.process.Pause()
}

// testpmdArgs has one thread forward, on the DUT's CPU; the main one, on the
// generator's, waits for a key. Huge pages would be the machine's, so there are
// none; buffers as many as no-huge memory holds.
func testpmdArgs(env chain.Env) []string {
	l := env.Layout
	return []string{
		"-l", fmt.Sprintf("%d,%d", l.Generator, l.DUT), "--main-lcore", strconv.Itoa(l.Generator),
		"--no-huge", "-m", "1024", "--no-shconf", "--no-telemetry", "--no-pci",
		"--vdev", "net_af_xdp0,iface=" + env.A, "--vdev", "net_af_xdp1,iface=" + env.B,
		"--",
		"--forward-mode=io", "--auto-start", "--nb-cores=1", "--total-num-mbufs=32768",
		"--rxd=2048", "--txd=2048",
	}
}

// Stop ends testpmd.
func (t *Testpmd) Stop() error {
	if t.process == nil {
		return nil
	}
	return t.process.Stop()
}

// Pause keeps it from spinning while others are measured.
func (t *Testpmd) Pause() error { return t.process.Pause() }

// Resume undoes Pause.
func (t *Testpmd) Resume() error { return t.process.Resume() }
