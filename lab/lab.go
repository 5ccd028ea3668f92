package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// DefaultPrefix is the prefix of a lab that nobody named.
const DefaultPrefix = "rw-"

// root is where labs keep their files, a directory for each prefix, on a tmpfs of
// its own.
const root = "/run/ringway/lab"

// Dir is the directory of the lab with that prefix.
func Dir(prefix string) string { return filepath.Join(root, prefix) }

// Options says how a lab is built. The zero value is the original scenario
// without agents.
type Options struct {
	Prefix       string // of namespace names, ends in a dash; default DefaultPrefix
	Binary       string // path of the ringway binary; empty: only the kernel's part, no agents and no pods on agent nodes
	Routing      string // overlay (default), direct or hybrid
	UplinkQueues int    // receive and transmit queues of every link between hosts, default 1
	Workers      int    // of each agent, default 1
	UnderlayMTU  int    // bytes of IP packet on the links between hosts, default 1500
	Pods         []Pod  // default DefaultPods
	CoreDNS      string // path of a CoreDNS, as make coredns builds it; empty: no DNS

	Controllers int    // that give the agents their tables, at most 3; 0: a tables file for each agent
	Etcd        int    // members of the controllers' etcd, at most 3; 0: it is embedded in the only controller
	EtcdBinary  string // path of an etcd, as make etcd builds it; needed for Etcd

	// AgentConfig may change agent.yaml of a host before it is written. Maps and
	// slices in it are as encoding/json makes them.
	AgentConfig func(host string, config map[string]any)

	Log io.Writer // progress, a line for each step; nil: none
}

// state is what a later process needs to know of a lab; it is kept in lab.json.
type state struct {
	Prefix       string       `json:"prefix"`
	Binary       string       `json:"binary,omitempty"`
	Routing      string       `json:"routing"`
	UplinkQueues int          `json:"uplinkQueues"`
	Workers      int          `json:"workers"`
	UnderlayMTU  int          `json:"underlayMTU"`
	Pods         []Pod        `json:"pods"`
	CoreDNS      string       `json:"coreDNS,omitempty"` // path of the binary; empty: no DNS
	Controllers  int          `json:"controllers,omitempty"`
	Etcd         int          `json:"etcd,omitempty"`
	EtcdBinary   string       `json:"etcdBinary,omitempty"`
	JoinedNodes  []JoinedNode `json:"joinedNodes,omitempty"`
}

// Lab is a running testbed. Its methods may be called from several goroutines;
// what changes the same host at the same time is the caller's to order.
type Lab struct {
	mu    sync.Mutex // guards state
	state state
	log   io.Writer

	agentConfig func(host string, config map[string]any)
}

func (o *Options) setDefaults() {
	if o.Prefix == "" {
		o.Prefix = DefaultPrefix
	}
	if o.Routing == "" {
		o.Routing = "overlay"
	}
	if o.UplinkQueues == 0 {
		o.UplinkQueues = 1
	}
	if o.Workers == 0 {
		o.Workers = 1
	}
	if o.UnderlayMTU == 0 {
		o.UnderlayMTU = 1500
	}
	if o.Pods == nil {
		o.Pods = DefaultPods()
	}
	if o.Log == nil {
		o.Log = io.Discard
	}
}

// Check refuses options with which no lab can be built.
func (o Options) Check() error {
	o.setDefaults()
	if err := checkPrefix(o.Prefix); err != nil {
		return err
	}
	if err := checkRouting(o.Routing); err != nil {
		return err
	}
	if o.UplinkQueues < 1 || o.UplinkQueues > 64 {
		return fmt.Errorf("uplink queues %d: use 1 to 64", o.UplinkQueues)
	}
	if o.UnderlayMTU < 576+vxlanOverhead || o.UnderlayMTU > 9000 {
		return fmt.Errorf("underlay MTU %d: use %d to 9000", o.UnderlayMTU, 576+vxlanOverhead)
	}
	for _, p := range o.Pods {
		if err := checkPod(p); err != nil {
			return err
		}
	}
	return o.checkControl()
}

func checkRouting(mode string) error {
	if !slices.Contains([]string{"overlay", "direct", "hybrid"}, mode) {
		return fmt.Errorf("routing %q: use overlay, direct or hybrid", mode)
	}
	return nil
}

// Up builds a lab. On failure everything that it made is taken down again. A
// lab with the same prefix, or what is left of one, is refused.
func Up(ctx context.Context, o Options) (*Lab, error) {
	if err := o.Check(); err != nil {
		return nil, err
	}
	o.setDefaults()
	l := &Lab{log: o.Log, agentConfig: o.AgentConfig, state: state{
		Prefix: o.Prefix, Binary: o.Binary, Routing: o.Routing,
		UplinkQueues: o.UplinkQueues, Workers: o.Workers, UnderlayMTU: o.UnderlayMTU,
		Controllers: o.Controllers, Etcd: o.Etcd, EtcdBinary: o.EtcdBinary,
	}}
	if err := l.claim(); err != nil {
		return nil, err
	}
	if err := l.build(ctx, o); err != nil {
		return nil, errors.Join(err, l.Down())
	}
	return l, nil
}

// claim takes the prefix: making the directory is the lock between two Ups.
func (l *Lab) claim() error {
	for _, host := range l.Hosts() {
		if namespaceExists(l.namespace(host)) {
			return fmt.Errorf("namespace %s exists: take the lab down first (ringway lab down --prefix %s)", l.namespace(host), l.state.Prefix)
		}
	}
	if err := os.MkdirAll(root, 0o755); err != nil {
		return fmt.Errorf("make the lab's directory: %w", err)
	}
	dir := Dir(l.state.Prefix)
	if err := os.Mkdir(dir, 0o755); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("lab %s is up: take it down first (ringway lab down --prefix %s)", l.state.Prefix, l.state.Prefix)
		}
		return fmt.Errorf("make the lab's directory: %w", err)
	}
	// Agents keep their flows there, which belong in memory; not every machine's
	// /run is.
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=755"); err != nil {
		return errors.Join(fmt.Errorf("mount a tmpfs at %s: %w", dir, err), os.Remove(dir))
	}
	return nil
}

func (l *Lab) build(ctx context.Context, o Options) error {
	if err := l.save(); err != nil {
		return err
	}
	if err := l.buildNetwork(); err != nil {
		return err
	}
	if err := l.buildControl(ctx); err != nil {
		return err
	}
	if l.state.Binary != "" {
		if err := l.buildAgents(ctx); err != nil {
			return err
		}
	}
	if err := l.addPods(ctx, o.Pods); err != nil || o.CoreDNS == "" {
		return err
	}
	return l.StartDNS(ctx, o.CoreDNS)
}

func (l *Lab) addPods(ctx context.Context, pods []Pod) error {
	for _, p := range pods {
		if l.state.Binary == "" && p.Node != linuxNode {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := l.StartPod(p); err != nil {
			return err
		}
	}
	return nil
}

// Open finds a lab that is up, also one that another process built.
func Open(prefix string) (*Lab, error) {
	if err := checkPrefix(prefix); err != nil {
		return nil, err
	}
	l := &Lab{log: io.Discard}
	data, err := os.ReadFile(filepath.Join(Dir(prefix), "lab.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there is no lab %s: build it first (ringway lab up --prefix %s)", prefix, prefix)
	}
	if err != nil {
		return nil, fmt.Errorf("read the lab's state: %w", err)
	}
	if err := json.Unmarshal(data, &l.state); err != nil {
		return nil, fmt.Errorf("read the lab's state: %w", err)
	}
	return l, nil
}

// save writes lab.json whole or not at all.
func (l *Lab) save() error {
	data, err := json.MarshalIndent(l.state, "", "  ")
	if err != nil {
		return fmt.Errorf("write the lab's state: %w", err)
	}
	return writeFile(filepath.Join(Dir(l.state.Prefix), "lab.json"), append(data, '\n'))
}

// writeFile replaces a file by rename, so that a reader, or a watcher of the
// file, never sees half of it.
func writeFile(path string, data []byte) error {
	temp := path + ".new"
	if err := os.WriteFile(temp, data, 0o644); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := os.Rename(temp, path); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// Down ends every process in the lab's namespaces and removes all that the lab
// made. It may be called again, and on a lab that is only half there. What an
// agent leaves on its node (programs, pins, devices, routes) is inside what is
// removed.
func (l *Lab) Down() error {
	var errs []error
	hosts := l.Hosts()
	for _, host := range hosts {
		errs = append(errs, killInside(l.namespace(host)))
	}
	for _, host := range hosts {
		errs = append(errs, deleteNamespace(l.namespace(host)))
	}
	dir := Dir(l.state.Prefix)
	if err := errors.Join(errs...); err != nil {
		return err // the directory stays: it tells the next Down what there is
	}
	for _, mount := range []string{filepath.Join(dir, "bpf"), dir} {
		if !isMount(mount) {
			continue
		}
		if err := unix.Unmount(mount, unix.MNT_DETACH); err != nil {
			return fmt.Errorf("unmount %s: %w", mount, err)
		}
	}
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("remove the lab's directory: %w", err)
	}
	return nil
}

// Down takes the lab of that prefix down, also when its directory is damaged or
// gone and only namespaces are left.
func Down(prefix string) error {
	l, err := Open(prefix)
	if err != nil {
		if err := checkPrefix(prefix); err != nil {
			return err
		}
		l = &Lab{log: io.Discard, state: state{Prefix: prefix, Pods: DefaultPods(), Controllers: maxControlHosts}}
	}
	return l.Down()
}

// Prefix of the lab's namespaces.
func (l *Lab) Prefix() string { return l.state.Prefix }

// Hosts lists the names of all hosts, pods last.
func (l *Lab) Hosts() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	hosts := slices.Concat(fixedHosts, l.state.controlHosts())
	for _, n := range l.state.JoinedNodes {
		hosts = append(hosts, n.Name)
	}
	for _, p := range l.state.Pods {
		hosts = append(hosts, p.Name)
	}
	return hosts
}

// Agents lists the hosts that run an agent.
func (l *Lab) Agents() []string {
	if l.state.Binary == "" {
		return nil
	}
	var hosts []string
	for _, n := range nodes {
		if n.name != linuxNode {
			hosts = append(hosts, n.name)
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, n := range l.state.JoinedNodes {
		hosts = append(hosts, n.Name)
	}
	return hosts
}

// hasAgent says whether host runs an agent.
func (l *Lab) hasAgent(host string) bool { return slices.Contains(l.Agents(), host) }

// pod finds a pod by name.
func (l *Lab) pod(name string) (Pod, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := slices.IndexFunc(l.state.Pods, func(p Pod) bool { return p.Name == name })
	if i < 0 {
		return Pod{}, false
	}
	return l.state.Pods[i], true
}

// Check refuses a name that is no host of the lab and lists those that are.
func (l *Lab) Check(host string) error {
	if hosts := l.Hosts(); !slices.Contains(hosts, host) {
		return fmt.Errorf("host %q: use one of %s", host, strings.Join(hosts, ", "))
	}
	return nil
}

// CheckAgent refuses a name that is no host with an agent and lists those that
// are.
func (l *Lab) CheckAgent(host string) error {
	if agents := l.Agents(); !slices.Contains(agents, host) {
		return fmt.Errorf("host %q has no agent: use one of %s", host, strings.Join(agents, ", "))
	}
	return nil
}

// namespace is the name of a host's network namespace.
func (l *Lab) namespace(host string) string { return l.state.Prefix + host }

// Netns is the path of a host's network namespace.
func (l *Lab) Netns(host string) string { return netnsPath(l.namespace(host)) }

// Do runs f in a host's namespace, on a thread that is thrown away afterwards.
// Goroutines that f starts run elsewhere; sockets that f opens stay there.
func (l *Lab) Do(host string, f func() error) error { return inNamespace(l.namespace(host), f) }

func (l *Lab) logf(format string, args ...any) { fmt.Fprintf(l.log, format+"\n", args...) }
