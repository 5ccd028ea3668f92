package lab

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// startTimeout is until the agent's socket answers.
const startTimeout = 20 * time.Second

func (l *Lab) hostDir(host string) string { return filepath.Join(Dir(l.state.Prefix), host) }

// Socket is the path of a host's agent socket.
func (l *Lab) Socket(host string) string { return filepath.Join(l.hostDir(host), "agent.sock") }

// Config is the path of a host's agent.yaml.
func (l *Lab) Config(host string) string { return filepath.Join(l.hostDir(host), "agent.yaml") }

// LogFile is the path of a host's agent log.
func (l *Lab) LogFile(host string) string { return filepath.Join(l.hostDir(host), "agent.log") }

func (l *Lab) agent(host string) daemon {
	return daemon{
		what: "the agent of " + host, config: l.Config(host), logFile: l.LogFile(host),
		pidFile: filepath.Join(l.hostDir(host), "agent.pid"),
	}
}

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
		"node":      host,
		"socket":    l.Socket(host),
		"stateDir":  filepath.Join(l.hostDir(host), "state"),
		"pinDir":    l.pinDir(host),
		"tables":    l.Tables(host),
		"redirects": l.RedirectsFile(host),
		"workers":   l.state.Workers,
		"uplinks":   uplinks,
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
	l.logf("agent on %s", host)
	agent := l.agent(host)
	ended, err := agent.start(l.Command(host, l.state.Binary, "agent", "-c", l.Config(host)))
	if err != nil {
		return err
	}
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
			return fmt.Errorf("the agent of %s ended at start: %s: %w", host, l.agent(host).lastLog(), cmp.Or(err, errEndedCleanly))
		case <-deadline:
			return fmt.Errorf("the agent of %s does not answer after %s: %s", host, startTimeout, l.agent(host).lastLog())
		case <-time.After(2 * time.Millisecond):
		}
	}
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
	return l.agent(host).end(signal)
}

// Pid is the process of a host's agent; 0: none runs.
func (l *Lab) Pid(host string) (int, error) { return l.agent(host).pid() }
