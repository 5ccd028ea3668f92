package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

func (l *Lab) hostDir(host string) string { return filepath.Join(Dir(l.state.Prefix), host) }

// program is what runs on a host under the lab's care.
func (l *Lab) program(host string) string {
	if slices.Contains(l.Controllers(), host) {
		return "controller"
	}
	return "agent"
}

// Socket is the path of the socket of a host's agent, or controller.
func (l *Lab) Socket(host string) string { return l.hostFile(host, l.program(host)+".sock") }

// Config is the path of the configuration of a host's agent, or controller.
func (l *Lab) Config(host string) string { return l.hostFile(host, l.program(host)+".yaml") }

// LogFile is the path of the log of a host's agent, or controller.
func (l *Lab) LogFile(host string) string { return l.hostFile(host, l.program(host)+".log") }

func (l *Lab) agent(host string) daemon {
	return daemon{
		what: "the agent of " + host, config: l.Config(host), logFile: l.LogFile(host),
		pidFile: l.hostFile(host, "agent.pid"),
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
	return l.waitJoined(ctx)
}

func (l *Lab) writeAgent(host string) error {
	for _, dir := range []string{l.hostDir(host), l.pinDir(host), filepath.Join(l.hostDir(host), "state")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("make a directory for %s: %w", host, err)
		}
	}
	config := l.defaultAgentConfig(host)
	if l.HasControl() {
		if err := l.joinByCertificate(host, config); err != nil {
			return err
		}
	} else {
		config["tables"] = l.Tables(host)
		if err := writeTables(l.Tables(host), tableSet(l.state.Routing)); err != nil {
			return err
		}
	}
	if l.agentConfig != nil {
		l.agentConfig(host, config)
	}
	return l.writeConfig(host, config)
}

func (l *Lab) defaultAgentConfig(host string) map[string]any {
	devices := []string{"eth0"}
	if n, ok := nodeByName(host); ok {
		devices = n.uplinks
	}
	var uplinks []any
	for _, device := range devices {
		uplinks = append(uplinks, map[string]any{"device": device})
	}
	config := map[string]any{
		"node":      host,
		"socket":    l.Socket(host),
		"stateDir":  filepath.Join(l.hostDir(host), "state"),
		"pinDir":    l.pinDir(host),
		"redirects": l.RedirectsFile(host),
		"workers":   l.state.Workers,
		"uplinks":   uplinks,
	}
	if l.state.UnderlayMTU > 1500 {
		config["chunkSize"] = 4096
	}
	return config
}

// Start starts a program of the lab, in a process group of its own so that it
// outlives the caller, and waits until it answers: the agent or the controller of a
// host, or an etcd member (as in "etcd1").
func (l *Lab) Start(name string) error {
	switch {
	case slices.Contains(l.Controllers(), name):
		return l.startController(name)
	case slices.Contains(l.EtcdMembers(), name):
		return l.startEtcd(name)
	}
	if err := l.checkProgram(name); err != nil {
		return err
	}
	l.logf("agent on %s", name)
	agent := l.agent(name)
	ended, err := agent.start(l.Command(name, l.state.Binary, "agent", "-c", l.Config(name)))
	if err != nil {
		return err
	}
	return l.waitReady(agent, l.Socket(name), ended)
}

// errEndedCleanly is what a program that ends by itself with exit code 0 did.
var errEndedCleanly = errors.New("exit code 0")

// waitReady waits until a program answers on its unix socket.
func (l *Lab) waitReady(d daemon, socket string, ended <-chan error) error {
	return d.waitReady(ended, func() (net.Conn, error) { return net.Dial("unix", socket) })
}

// Programs lists what Start, Stop and Kill take.
func (l *Lab) Programs() []string {
	return slices.Concat(l.Agents(), l.Controllers(), l.EtcdMembers())
}

func (l *Lab) checkProgram(name string) error {
	if all := l.Programs(); !slices.Contains(all, name) {
		return fmt.Errorf("nothing of the lab runs on %q: use one of %s", name, strings.Join(all, ", "))
	}
	return nil
}

func (l *Lab) daemon(name string) (daemon, error) {
	switch {
	case slices.Contains(l.Controllers(), name):
		return l.controller(name), nil
	case slices.Contains(l.EtcdMembers(), name):
		return l.etcd(name), nil
	}
	return l.agent(name), l.checkProgram(name)
}

// Stop ends a program that Start takes by SIGTERM and waits until it is gone. It is
// done if it does not run.
func (l *Lab) Stop(name string) error { return l.end(name, unix.SIGTERM) }

// Kill ends one by SIGKILL, as a crash would, and waits until it is gone. It is done
// if it does not run.
func (l *Lab) Kill(name string) error { return l.end(name, unix.SIGKILL) }

func (l *Lab) end(name string, signal unix.Signal) error {
	d, err := l.daemon(name)
	if err != nil {
		return err
	}
	return d.end(signal)
}

// Pid is the process of a program that Start takes; 0: it does not run.
func (l *Lab) Pid(name string) (int, error) {
	d, err := l.daemon(name)
	if err != nil {
		return 0, err
	}
	return d.pid()
}
