package peer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"sigs.k8s.io/yaml"

	"ringway/bench/chain"
	"ringway/control"
)

// agentStart is how long the agent may take until it says that it is healthy.
const agentStart = 10 * time.Second

// Ringway is the agent as users run it, in a process of its own, with one worker
// and two uplinks that take all IPv4 but the node's own. There is no endpoint.
//
//   - forward: the way out of B is a kernel route that the agent mirrors.
//   - encap: the destination is the node CIDR of a peer beyond B.
//   - decap: our VTEP is A's address, the peer's is the generator's; what is inside
//     goes out of B by a kernel route.
//   - masquerade, decap-masq: a rule takes the generator's addresses for transit
//     to masquerade. It has the ports that the kernel takes for such flows.
//   - dns-redirect: client and cache are pods, and a redirect of the table set takes the
//     service to the cache.
type Ringway struct {
	agent   string
	socket  string
	process *chain.Process
}

// NewRingway returns a DUT that runs agent, the path of the ringway binary.
func NewRingway(agent string) *Ringway { return &Ringway{agent: agent} }

// Name of the column.
func (*Ringway) Name() string { return RingwayName }

// Output is a router's.
func (*Ringway) Output(t chain.Traffic) chain.Expect { return t.Routed() }

// Start writes the agent's files and runs it until it is healthy.
func (r *Ringway) Start(ctx context.Context, env chain.Env) error {
	config := filepath.Join(env.Dir, "agent.yaml")
	r.socket = filepath.Join(env.Dir, "agent.sock")
	tables := filepath.Join(env.Dir, "tables.yaml")
	if err := writeYAML(tables, tableSet(env.Traffic.Row)); err != nil {
		return err
	}
	if err := writeYAML(config, agentConfig(env, r.socket, tables)); err != nil {
		return err
	}
	var err error
	if r.process, err = env.NS.Start(exec.Command(r.agent, "agent", "-c", config)); err != nil {
		return err
	}
	return r.waitHealthy(ctx, r.socket)
}

func writeYAML(path string, v any) error {
	doc, err := yaml.Marshal(v)
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := os.WriteFile(path, doc, 0o600); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// agentConfig leaves everything at its default but where the worker runs and how
// it rests. Where it shares its CPU with the kernel thread that feeds it, it must
// win when it has work and sleep when it has none.
func agentConfig(env chain.Env, socket, tables string) map[string]any {
	scheduler, idle := "other", "adaptive"
	if env.Layout.Shared() {
		scheduler, idle = "fifo", "interrupt"
	}
	config := map[string]any{
		"node":      "dut",
		"socket":    socket,
		"stateDir":  filepath.Join(env.Dir, "state"),
		"pinDir":    filepath.Join(chain.BPFFS, "ringway"),
		"tables":    tables,
		"workers":   1,
		"cpus":      []int{env.Layout.DUT},
		"scheduler": scheduler,
		"idle":      idle,
		"uplinks": []any{
			map[string]any{"device": env.A, "take": "all"},
			map[string]any{"device": env.B, "take": "all"},
		},
	}
	if env.Traffic.Row.Redirects() {
		config["dnsMaxQueriesPerEndpoint"], config["dnsDeadline"] = maxQueries, deadline
	}
	return config
}

func tableSet(row chain.Row) map[string]any {
	set := map[string]any{
		"version": 1,
		"routing": "overlay",
		"vxlan":   map[string]any{"vni": chain.VNI, "port": chain.VXLANPort},
		"nodes": []any{
			map[string]any{"name": "dut", "address": row.Local().String(), "nodeCidrs": []string{chain.LocalCIDR.String()}},
			map[string]any{"name": "peer", "address": row.Peer().String(), "nodeCidrs": []string{row.PeerCIDR().String()}},
		},
	}
	if row.Masquerades() {
		set["masquerade"] = map[string]any{"rules": []any{map[string]any{
			"name": "transit", "sources": []string{chain.FlowSources.String()}, "action": "snat", "ports": "1024-65535",
		}}}
	}
	if row.Redirects() {
		set["services"], set["redirects"] = []any{service()}, []any{redirect()}
	}
	return set
}

func (r *Ringway) waitHealthy(ctx context.Context, socket string) error {
	deadline := time.After(agentStart)
	for {
		why := healthy(ctx, socket)
		if why == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-r.process.Done():
			return fmt.Errorf("the agent ended: %s", r.process.Output())
		case <-deadline:
			return fmt.Errorf("the agent is not ready after %s: %w: %s", agentStart, why, r.process.Output())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// healthy says why the agent behind socket is not; nil: it is, and has tables.
func healthy(ctx context.Context, socket string) error {
	if _, err := os.Stat(socket); err != nil {
		return fmt.Errorf("it has no socket yet: %w", err)
	}
	client, err := control.NewClient(socket)
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	status, err := client.Status(ctx)
	switch {
	case err != nil:
		return err
	case !status.GetHealthy():
		return errors.New(strings.Join(status.GetReasons(), "; "))
	case status.GetTables().GetApplied() == nil:
		return errors.New("it has no tables yet")
	}
	return nil
}

// flushPatience is how long the agent may take to forget its flows.
const flushPatience = 10 * time.Second

// Flush has the agent forget its flows.
func (r *Ringway) Flush(ctx context.Context) (flows int, err error) {
	client, err := control.NewClient(r.socket)
	if err != nil {
		return 0, err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, flushPatience)
	defer cancel()
	flushed, err := client.FlushFlows(ctx, nil)
	if err != nil {
		return 0, fmt.Errorf("flush the agent's flows: %w", err)
	}
	return int(flushed.GetFlows()), nil
}

// Stop ends the agent.
func (r *Ringway) Stop() error {
	if r.process == nil {
		return nil
	}
	return r.process.Stop()
}
