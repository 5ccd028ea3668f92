package lab

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
)

// Command is a command that will run in a host's namespace, with the host's
// agent as its agent. The process replaces nsenter, so its pid, signals and
// exit code are the command's own.
func (l *Lab) Command(host, name string, args ...string) *exec.Cmd {
	cmd := exec.Command("nsenter", append([]string{"--net=" + l.Netns(host), "--", name}, args...)...)
	cmd.Env = l.Environment(host)
	return cmd
}

// Environment is the caller's, with RINGWAY_SOCKET of the host's node,
// RINGWAY_CONTROLLER of the controller, and the lab's own binary first in PATH.
func (l *Lab) Environment(host string) []string {
	env := os.Environ()
	if p, ok := l.pod(host); ok {
		host = p.Node
	}
	if l.hasAgent(host) {
		env = append(env, "RINGWAY_SOCKET="+l.Socket(host))
	}
	if controller := l.controllerOf(host); controller != "" {
		env = append(env, "RINGWAY_CONTROLLER="+l.Socket(controller))
	}
	if l.state.Binary != "" {
		env = append(env, "PATH="+filepath.Dir(l.state.Binary)+":"+os.Getenv("PATH"))
	}
	return env
}

// lastLine of a command's output: where a command says why it failed.
func lastLine(out []byte) string {
	lines := bytes.Split(bytes.TrimSpace(out), []byte("\n"))
	return string(lines[len(lines)-1])
}
