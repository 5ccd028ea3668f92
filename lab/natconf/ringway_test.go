package natconf

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"time"

	"sigs.k8s.io/yaml"

	"ringway/control"
	"ringway/control/ringwayv1"
	"ringway/lab"
	"ringway/packet"
)

// ringway is a node with an agent.
type ringway struct{ *node }

// podGateway is the MAC that every pod has as its gateway's.
var podGateway = packet.MAC{0x02, 0x52, 0x47, 0, 0, 1}

// updatePatience is how long a table set may take to come into force.
const updatePatience = 5 * time.Second

func openRingway(l *lab.Lab, out *station, host string, pods [2]string, extra ...string) (*ringway, error) {
	n, err := openNode(l, out, host, pods, podGateway, extra...)
	if err != nil {
		return nil, err
	}
	d := &ringway{n}
	return d, d.update(func(m map[string]any) { m["rules"] = d.rules() })
}

// rules make the realms what they are.
func (d *ringway) rules() []any {
	rule := func(r realmName, action string, more map[string]any) any {
		more["name"], more["action"] = string(r), action
		more["destinations"] = []any{outside[r][0] + "/32", outside[r][1] + "/32"}
		return more
	}
	addresses := func(r realmName) (out []any) {
		for _, a := range d.realms[r].x {
			out = append(out, address(a).String())
		}
		return out
	}
	rules := []any{rule(refused, "drop", map[string]any{})}
	for _, r := range []realmName{own, pool} {
		rules = append(rules, rule(r, "snat", map[string]any{"addresses": addresses(r)}))
	}
	for _, r := range []realmName{narrow, hundred, beside} {
		rules = append(rules, rule(r, "snat", map[string]any{"ports": fmt.Sprintf("%d-%d", ranges[r][0], ranges[r][1])}))
	}
	return rules
}

// update changes the masquerade section of the node's table set.
func (d *ringway) update(edit func(masquerade map[string]any)) error {
	ctx, cancel := context.WithTimeout(context.Background(), updatePatience)
	defer cancel()
	return d.lab.Update(ctx, d.host, func(tables map[string]any) { edit(tables["masquerade"].(map[string]any)) })
}

func (d *ringway) forget() error {
	return d.ask(func(ctx context.Context, c *control.Client) error {
		_, err := c.FlushFlows(ctx, &ringwayv1.FlowFilter{})
		return err
	})
}

// ask asks the node's agent something.
func (d *ringway) ask(question func(context.Context, *control.Client) error) error {
	client, err := d.lab.Agent(d.host)
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), updatePatience)
	defer cancel()
	return question(ctx, client)
}

// timeouts are those that the binary prints as its defaults.
func (d *ringway) timeouts() (timeouts, error) {
	out, err := d.lab.Command(d.host, "ringway", "agent", "--print-config").Output()
	if err != nil {
		return timeouts{}, fmt.Errorf("print the configuration: %w", err)
	}
	var config struct{ Timeouts map[string]string }
	if err := yaml.Unmarshal(out, &config); err != nil {
		return timeouts{}, fmt.Errorf("read the printed configuration: %w", err)
	}
	get := func(key string) time.Duration {
		v, e := time.ParseDuration(config.Timeouts[key])
		err = errors.Join(err, e)
		return v
	}
	t := timeouts{udp: get("udp"), icmp: get("icmp"), tcpEstablished: get("tcpEstablished")}
	t.tcpOpening = get("tcpTransitory")
	t.tcpClosing, t.reset = t.tcpOpening, t.tcpOpening
	return t, err
}

// shortTimeouts changes agent.yaml of a node on which probes wait for timeouts.
func shortTimeouts(config map[string]any) {
	config["allowShortTimeouts"] = true
	config["timeouts"] = map[string]any{
		"udp": short.udp.String(), "icmp": short.icmp.String(),
		"tcpEstablished": short.tcpEstablished.String(), "tcpTransitory": short.tcpOpening.String(),
	}
}

// limits changes agent.yaml of a node on which probes meet quotas.
func limits(config map[string]any) {
	config["maxPortsPerEndpoint"] = quota
	config["maxFlowsPerEndpoint"] = 2 * quota
}

func (d *ringway) exempt(p netip.Prefix) error {
	return d.update(func(m map[string]any) { m["nonMasqueradeCIDRs"] = []any{p.String()} })
}

// takesConflict: a set in which a node has an address inside the pods' network is
// refused.
func (d *ringway) takesConflict() (bool, error) {
	ctx, cancel := context.WithTimeout(context.Background(), updatePatience)
	defer cancel()
	before, err := d.lab.TablesVersion(d.host)
	if err != nil {
		return false, err
	}
	address := func(a string) func(map[string]any) {
		return func(tables map[string]any) {
			tables["version"] = before + 1
			tables["nodes"].([]any)[0].(map[string]any)["address"] = a
		}
	}
	if err := d.lab.SetTables(d.host, address("10.200.0.99")); err != nil {
		return false, err
	}
	taken, err := d.judged(ctx, before)
	return taken, errors.Join(err, d.lab.SetTables(d.host, address(d.lab.Address(d.host).String())), d.lab.WaitTables(ctx, d.host, before+1))
}

// judged waits until the agent has taken or refused what came after a version.
func (d *ringway) judged(ctx context.Context, before uint64) (taken bool, err error) {
	for {
		s, err := d.lab.AgentStatus(ctx, d.host)
		if err != nil {
			return false, err
		}
		if t := s.GetTables(); t.GetVersion() > before || t.GetError() != "" {
			return t.GetVersion() > before, nil
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func (d *ringway) refusals() (n uint64, err error) {
	err = d.ask(func(ctx context.Context, c *control.Client) error {
		nat, err := c.NAT(ctx)
		n = nat.GetRefused()
		return err
	})
	return n, err
}

func (d *ringway) written() (string, error) {
	log, err := os.ReadFile(d.lab.LogFile(d.host))
	return string(log), err
}

func (d *ringway) choose(o option) (func() error, error) {
	if o != strictEIM {
		return nil, errNoOption
	}
	strict := func(on bool) func() error {
		return func() error { return d.update(func(m map[string]any) { m["strictEim"] = on }) }
	}
	return strict(false), strict(true)()
}

// buildRingway builds the binary under test.
func buildRingway(path string) error {
	out, err := exec.Command("go", "build", "-o", path, "ringway/cmd/ringway").CombinedOutput()
	if err != nil {
		return fmt.Errorf("build ringway: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return nil
}
