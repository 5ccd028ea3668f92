package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"ringway/control"
)

// labDir is where each lab keeps a directory for each of its hosts.
const labDir = "/run/ringway/lab"

// target says which agent a command talks to.
type target struct {
	command              *cobra.Command
	socket, node, prefix string
}

// flags are those of every command that talks to an agent.
func (t *target) flags(c *cobra.Command) {
	t.command = c
	f := c.Flags()
	f.StringVar(&t.socket, "socket", envOr("RINGWAY_SOCKET", control.DefaultSocket), "the agent's socket (env RINGWAY_SOCKET)")
	f.StringVar(&t.node, "node", "", "talk to the agent of this host of the lab instead")
	f.StringVar(&t.prefix, "prefix", envOr("RINGWAY_LAB_PREFIX", "rw-"), "the lab's prefix (env RINGWAY_LAB_PREFIX)")
}

// client talks to the agent that was chosen.
func (t *target) client() (*control.Client, error) {
	if t.node == "" {
		return control.NewClient(t.socket)
	}
	if t.command.Flags().Changed("socket") {
		return nil, usagef("--socket and --node name two agents: leave one out")
	}
	// Either would lead out of labDir.
	for flag, name := range map[string]string{"node": t.node, "prefix": t.prefix} {
		if name == "" || name == "." || name == ".." || strings.Contains(name, "/") {
			return nil, usagef("--%s %q is no name of a directory under %s: see ringway lab status", flag, name, labDir)
		}
	}
	host := filepath.Join(labDir, t.prefix, t.node)
	if _, err := os.Stat(host); err != nil {
		return nil, fmt.Errorf("the lab %s has no host %q: see ringway lab status --prefix %s", t.prefix, t.node, t.prefix)
	}
	return control.NewClient(filepath.Join(host, "agent.sock"))
}

func envOr(name, fallback string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return fallback
}
