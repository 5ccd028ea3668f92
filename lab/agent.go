package lab

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	startTimeout = 20 * time.Second // until the agent's socket answers
	stopTimeout  = 10 * time.Second // from SIGTERM to the end of the process
)

func (l *Lab) hostDir(host string) string { return filepath.Join(Dir(l.state.Prefix), host) }

// Socket is the path of a host's agent socket.
func (l *Lab) Socket(host string) string { return filepath.Join(l.hostDir(host), "agent.sock") }

// Config is the path of a host's agent.yaml.
func (l *Lab) Config(host string) string { return filepath.Join(l.hostDir(host), "agent.yaml") }

// LogFile is the path of a host's agent log.
func (l *Lab) LogFile(host string) string { return filepath.Join(l.hostDir(host), "agent.log") }

func (l *Lab) pidFile(host string) string { return filepath.Join(l.hostDir(host), "agent.pid") }

// pinDir is on a bpffs of the lab's own, so that a pin ends with the lab.
func (l *Lab) pinDir(host string) string { return filepath.Join(Dir(l.state.Prefix), "bpf", host) }

// buildAgents writes the agents' files and starts them.
func (l *Lab) buildAgents(ctx context.Context) error {
	pins := filepath.Join(Dir(l.state.Prefix), "bpf")
	if err := os.Mkdir(pins, 0o700); err != nil {
		return fmt.Errorf("make the pin directory: %w", err)
	}
	if err := unix.Mount("bpf", pins, "bpf", 0, ""); err != nil {
		return fmt.Errorf("mount a bpffs at %s: %w", pins, err)
	}
	for _, host := range l.Agents() {
		if err := l.writeAgent(host); err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := l.Start(host); err != nil {
			return err
		}
	}
	return nil
}

func (l *Lab) writeAgent(host string) error {
	for _, dir := range []string{l.hostDir(host), l.pinDir(host), filepath.Join(l.hostDir(host), "state")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("make a directory for %s: %w", host, err)
		}
	}
	if err := l.writeTables(host, tableSet(l.state.Routing)); err != nil {
		return err
	}
	config := l.defaultAgentConfig(host)
	if l.agentConfig != nil {
		l.agentConfig(host, config)
	}
	return l.writeConfig(host, config)
}

func (l *Lab) defaultAgentConfig(host string) map[string]any {
	n, _ := nodeByName(host)
	var uplinks []any
	for _, device := range n.uplinks {
		uplinks = append(uplinks, map[string]any{"device": device})
	}
	config := map[string]any{
		"node":     host,
		"socket":   l.Socket(host),
		"stateDir": filepath.Join(l.hostDir(host), "state"),
		"pinDir":   l.pinDir(host),
		"tables":   l.Tables(host),
		"workers":  l.state.Workers,
		"uplinks":  uplinks,
	}
	if l.state.UnderlayMTU > 1500 {
		config["chunkSize"] = 4096
	}
	return config
}

// Start starts a host's agent, in a process group of its own so that it outlives
// the caller, and waits until its socket answers.
func (l *Lab) Start(host string) error {
	if err := l.CheckAgent(host); err != nil {
		return err
	}
	if pid, err := l.Pid(host); err != nil || pid != 0 {
		return errors.Join(err, fmt.Errorf("the agent of %s runs already as process %d", host, pid))
	}
	l.logf("agent on %s", host)
	log, err := os.OpenFile(l.LogFile(host), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("open the log of %s: %w", host, err)
	}
	defer log.Close()
	cmd := l.Command(host, l.state.Binary, "agent", "-c", l.Config(host))
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start the agent of %s: %w", host, err)
	}
	if err := writeFile(l.pidFile(host), []byte(strconv.Itoa(cmd.Process.Pid)+"\n")); err != nil {
		return errors.Join(err, cmd.Process.Kill())
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }() // reaps it, should the caller live longer
	return l.waitReady(host, ended)
}

// errEndedCleanly is what an agent that ends by itself with exit code 0 did.
var errEndedCleanly = errors.New("exit code 0")

func (l *Lab) waitReady(host string, ended <-chan error) error {
	deadline := time.After(startTimeout)
	for {
		if c, err := net.Dial("unix", l.Socket(host)); err == nil {
			return c.Close()
		}
		select {
		case err := <-ended:
			return fmt.Errorf("the agent of %s ended at start: %s: %w", host, l.lastLog(host), cmp.Or(err, errEndedCleanly))
		case <-deadline:
			return fmt.Errorf("the agent of %s does not answer after %s: %s", host, startTimeout, l.lastLog(host))
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// lastLog is the last line that a host's agent wrote.
func (l *Lab) lastLog(host string) string {
	data, err := os.ReadFile(l.LogFile(host))
	if err != nil {
		return err.Error()
	}
	return lastLine(data)
}

// Stop ends a host's agent by SIGTERM and waits until it is gone. It is done if
// none runs.
func (l *Lab) Stop(host string) error { return l.end(host, unix.SIGTERM) }

// Kill ends a host's agent by SIGKILL, as a crash would, and waits until it is
// gone. It is done if none runs.
func (l *Lab) Kill(host string) error { return l.end(host, unix.SIGKILL) }

func (l *Lab) end(host string, signal unix.Signal) error {
	if err := l.CheckAgent(host); err != nil {
		return err
	}
	pid, err := l.Pid(host)
	if err != nil || pid == 0 {
		return err
	}
	// A descriptor of the process: its number cannot pass to another one, and
	// the end of a process that is not our child can be waited for.
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open the agent of %s, process %d: %w", host, pid, err)
	}
	defer unix.Close(fd)
	if err := unix.PidfdSendSignal(fd, signal, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("end the agent of %s, process %d: %w", host, pid, err)
	}
	if err := waitPidfd(fd, stopTimeout); err != nil {
		return fmt.Errorf("the agent of %s, process %d: %w", host, pid, err)
	}
	return nil
}

func waitPidfd(fd int, timeout time.Duration) error {
	deadline := time.Now().Add(timeout)
	for {
		left := time.Until(deadline)
		if left <= 0 {
			return fmt.Errorf("does not end within %s", timeout)
		}
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(left.Milliseconds())+1)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("wait for its end: %w", err)
		}
		if n > 0 {
			return nil
		}
	}
}

// Pid is the process of a host's agent; 0: none runs.
func (l *Lab) Pid(host string) (int, error) {
	data, err := os.ReadFile(l.pidFile(host))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("find the agent of %s: %w", host, err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil {
		return 0, fmt.Errorf("find the agent of %s: %w", host, err)
	}
	// The number may have passed to another process: ours names its configuration.
	// A process that has ended has no command line.
	command, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cmdline"))
	if err != nil || !strings.Contains(string(command), l.Config(host)) {
		return 0, nil
	}
	return pid, nil
}
