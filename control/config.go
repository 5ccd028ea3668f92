package control

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"

	"sigs.k8s.io/yaml"

	"ringway/dataplane"
	"ringway/nat"
)

// DefaultSocket is where an agent answers unless told otherwise.
const DefaultSocket = "/run/ringway/agent.sock"

// maxSocketPath is what sun_path holds (unix(7)), less its zero byte and the
// suffix of the name under which Listen makes the socket.
const maxSocketPath = 107 - len(newSuffix)

// Config is agent.yaml. Its tags are the names and the explanations that
// WriteConfig prints; DefaultConfig holds the defaults.
type Config struct {
	Node          string   `json:"node" doc:"Name of this node in the table set. Empty: the host name."`
	Socket        string   `json:"socket" doc:"Unix socket (mode 0660) on which the agent answers."`
	SocketGroup   string   `json:"socketGroup" doc:"Group of the socket, name or number, whose members may look. Empty: adminGroup, or root only."`
	AdminGroup    string   `json:"adminGroup" doc:"Group, name or number, whose members may also change things and capture packets by the socket. Empty: root only."`
	AuditLog      string   `json:"auditLog" doc:"File to which every change is written, one JSON object a line, besides the log. Empty: the log only."`
	StateDir      string   `json:"stateDir" doc:"Where endpoints and the last applied table set are kept over a restart."`
	PinDir        string   `json:"pinDir" doc:"Where XDP programs, maps and links are pinned. A bpffs is mounted there if there is none."`
	Tables        string   `json:"tables" doc:"File with the table set (YAML), watched for changes. Empty: table sets come by the API, or from a controller."`
	Controllers   []string `json:"controllers" doc:"Controllers (HOST:PORT) that table sets come from, instead of a file; tried in turn. Empty: none."`
	TLS           TLSFiles `json:"tls" doc:"The node's certificate for the controllers (ringway pki issue --dir CA --out DIR node NAME)."`
	Address       string   `json:"address" doc:"IPv4 address by which other nodes reach this one, told to the controller. Empty: the first address of the first uplink."`
	VTEPMAC       string   `json:"vtepMAC" doc:"Inner destination MAC of this node's VTEP, told to the controller. Empty: derived from the address."`
	RestoreTables bool     `json:"restoreTables" doc:"Start with the table set that was applied last, until there is another."`
	Uplinks       []Uplink `json:"uplinks" doc:"The NICs whose packets go through the workers."`
	Workers       int      `json:"workers" doc:"Packet threads, 1 to 64."`
	CPUs          []int    `json:"cpus" doc:"CPUs of the workers, handed out in order. Empty: any."`
	Scheduler     string   `json:"scheduler" doc:"Scheduler class of the workers: other, or fifo (SCHED_FIFO, priority 1)."`
	Idle          string   `json:"idle" doc:"What a worker without packets does. busy: spin for ever; adaptive: spin for a while, then sleep; interrupt: sleep at once."`
	Spin          string   `json:"spin" doc:"How long an adaptive worker spins before it sleeps, at most 10ms."`
	Frames        int      `json:"frames" doc:"Frames of each worker's UMEM. 0: as many as rings and endpoints need."`
	ChunkSize     int      `json:"chunkSize" doc:"Bytes of a frame: 2048, or 4096 for MTUs above 1500."`
	RingSize      int      `json:"ringSize" doc:"Entries of the RX, TX and completion rings: a power of two, 64 to 32768."`
	FillDepth     int      `json:"fillDepth" doc:"Frames kept on each fill ring, 1 to ringSize."`
	MaxEndpoints  int      `json:"maxEndpoints" doc:"Pods that can be attached, 1 to 65535."`
	PodMTU        int      `json:"podMTU" doc:"MTU of the pods. 0: what uplinks and routing mode carry."`

	IPMasqAgentFile     string   `json:"ipMasqAgentFile" doc:"ip-masq-agent file (YAML or JSON), watched, whose nonMasqueradeCIDRs add to those of the table set's masquerade section. Empty: none."`
	IPMasqAgentProfile  string   `json:"ipMasqAgentProfile" doc:"How that file is read: as cilium does, or as upstream (kubernetes-sigs/ip-masq-agent) does."`
	MaxFlows            int      `json:"maxFlows" doc:"Flows of the whole node at once, 1024 to 16777216; 128 bytes each."`
	MaxFlowsPerEndpoint int      `json:"maxFlowsPerEndpoint" doc:"Flows of one pod at once. 0: no limit but maxFlows."`
	MaxPortsPerEndpoint int      `json:"maxPortsPerEndpoint" doc:"SNAT ports of one pod at once. 0: no limit."`
	SNATPorts           string   `json:"snatPorts" doc:"Ports for SNAT on the node's own addresses; the kernel is kept off them. An address that only a rule names has all ports."`
	MaxSNATAddresses    int      `json:"maxSnatAddresses" doc:"Addresses for SNAT at once, those of the uplinks included, 1 to 256; 256 KiB each."`
	Timeouts            Timeouts `json:"timeouts" doc:"How long a flow lives after its last packet."`
	AllowShortTimeouts  bool     `json:"allowShortTimeouts" doc:"Take timeouts below what the RFCs demand."`

	Redirects                string `json:"redirects" doc:"File or directory of CiliumLocalRedirectPolicy manifests (YAML), watched, that add to the redirects of the table set. Empty: none."`
	DNSDeadline              string `json:"dnsDeadline" doc:"How long a redirect's backend has to answer a DNS query before the original service is asked, 1ms to 5s."`
	DNSMaxQueries            int    `json:"dnsMaxQueries" doc:"Redirected DNS queries of one worker in flight at once, 64 to 65536."`
	DNSMaxQueriesPerEndpoint int    `json:"dnsMaxQueriesPerEndpoint" doc:"Of these, queries of one pod, 1 to 65536."`
	DNSProbeInterval         string `json:"dnsProbeInterval" doc:"Time between two health probes of a redirect's backend, 50ms to 1m."`

	LogLevel string `json:"logLevel" doc:"debug, info, warn or error."`
}

// Uplink is one entry of uplinks in agent.yaml.
type Uplink struct {
	Device   string `json:"device" doc:"Name of the NIC. Required."`
	Driver   string `json:"driver" doc:"xsk, or asavie (the reference)."`
	XDPMode  string `json:"xdpMode" doc:"native, generic, or auto: native where it works, else generic."`
	ZeroCopy string `json:"zeroCopy" doc:"auto, never or always."`
	Take     string `json:"take" doc:"ours: what is for pods and tunnels; all: all IPv4 but what is for the host's own addresses."`
	OwnUMEM  bool   `json:"ownUMEM" doc:"A UMEM of its own instead of the worker's. Implied by asavie and zero-copy."`
}

// UnmarshalJSON fills in the defaults of what is left out.
func (u *Uplink) UnmarshalJSON(b []byte) error {
	type plain Uplink // without this method
	p := plain(defaultUplink(""))
	if err := json.Unmarshal(b, &p); err != nil {
		return err
	}
	*u = Uplink(p)
	return nil
}

// DefaultConfig has every key at its default. It lacks uplinks, without which
// an agent does not start.
func DefaultConfig() Config {
	d := dataplane.DefaultConfig()
	return Config{
		Socket:        DefaultSocket,
		StateDir:      d.StateDir,
		PinDir:        d.PinDir,
		RestoreTables: d.RestoreTables,
		Controllers:   []string{},
		Uplinks:       []Uplink{},
		Workers:       d.Workers,
		CPUs:          []int{},
		Scheduler:     d.Scheduler,
		Idle:          d.Idle,
		Spin:          asciiDuration(d.Spin),
		Frames:        d.Frames,
		ChunkSize:     d.ChunkSize,
		RingSize:      d.RingSize,
		FillDepth:     d.FillDepth,
		MaxEndpoints:  d.MaxEndpoints,
		PodMTU:        d.PodMTU,

		IPMasqAgentFile:     d.IPMasqFile,
		IPMasqAgentProfile:  d.IPMasqProfile,
		MaxFlows:            d.MaxFlows,
		MaxFlowsPerEndpoint: d.MaxFlowsPerEndpoint,
		MaxPortsPerEndpoint: d.MaxPortsPerEndpoint,
		SNATPorts:           nat.PortRange{Low: d.SNATPorts[0], High: d.SNATPorts[1]}.String(),
		MaxSNATAddresses:    d.MaxSNATAddresses,
		Timeouts:            timeouts(d.Timeouts),

		Redirects:                d.RedirectsFile,
		DNSDeadline:              shortDuration(d.DNSDeadline),
		DNSMaxQueries:            d.DNSMaxQueries,
		DNSMaxQueriesPerEndpoint: d.DNSMaxQueriesPerEndpoint,
		DNSProbeInterval:         shortDuration(d.DNSProbeInterval),

		LogLevel: "info",
	}
}

func defaultUplink(device string) Uplink { return Uplink(dataplane.DefaultUplink(device)) }

// asciiDuration spares an agent.yaml the µ.
func asciiDuration(d time.Duration) string { return strings.ReplaceAll(d.String(), "µ", "u") }

// LoadConfig reads agent.yaml. What is wrong with its content is Problems.
func LoadConfig(path string) (Config, error) {
	doc, err := os.ReadFile(path)
	if err != nil {
		return Config{}, fmt.Errorf("read the configuration: %w", err)
	}
	c, err := ParseConfig(doc)
	if err != nil {
		return Config{}, fmt.Errorf("%s: %w", path, err)
	}
	if c.Node == "" {
		if c.Node, err = os.Hostname(); err != nil {
			return Config{}, fmt.Errorf("node is empty and the host name unknown: %w", err)
		}
		c.Node = strings.ToLower(c.Node)
	}
	if err := c.Validate(); err != nil {
		return Config{}, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}

// ParseConfig reads the content of an agent.yaml over the defaults, without
// validating the values.
func ParseConfig(doc []byte) (Config, error) {
	c := DefaultConfig()
	if err := DecodeConfig(doc, &c, "ringway agent --print-config"); err != nil {
		return Config{}, err
	}
	return c, nil
}

// Validate returns Problems, or nil.
func (c Config) Validate() error {
	var ps Problems
	if reason, remedy := nameProblem(c.Node); reason != "" {
		ps.add("node", reason, remedy)
	}
	ps.Socket("socket", c.Socket)
	if c.AuditLog != "" {
		ps.path("auditLog", c.AuditLog)
	}
	ps.path("stateDir", c.StateDir)
	ps.path("pinDir", c.PinDir)
	if c.Tables != "" {
		ps.path("tables", c.Tables)
	}
	c.join(&ps)
	ps.uplinks(c.Uplinks)
	ps.within("workers", c.Workers, 1, 64)
	ps.cpus(c.CPUs)
	ps.oneOf("scheduler", c.Scheduler, "other", "fifo")
	ps.oneOf("idle", c.Idle, "busy", "adaptive", "interrupt")
	if d, err := time.ParseDuration(c.Spin); err != nil || d < 0 || d > 10*time.Millisecond {
		ps.add("spin", fmt.Sprintf("%q is not a duration from 0 to 10ms", clip(c.Spin)), "write it as in 50us")
	}
	c.memory(&ps)
	ps.within("maxEndpoints", c.MaxEndpoints, 1, 65535)
	c.masquerade(&ps)
	c.redirects(&ps)
	ps.oneOf("logLevel", c.LogLevel, "debug", "info", "warn", "error")
	return ps.err()
}

// join checks how the agent joins a controller's cluster.
func (c Config) join(ps *Problems) {
	if len(c.Controllers) == 0 {
		return
	}
	if c.Tables != "" {
		ps.add("controllers", "tables is given, too", "leave one of them out: a node has its table sets from one place")
	}
	for i, s := range c.Controllers {
		ps.HostPort(fmt.Sprintf("controllers[%d]", i), s)
	}
	c.TLS.Check(ps, "tls", true)
	if c.Address != "" {
		if _, problem := parseNodeAddress(c.Address); problem != nil {
			ps.add("address", problem.Reason, problem.Remedy)
		}
	}
	if c.VTEPMAC != "" {
		if _, problem := parseVTEPMAC(c.VTEPMAC); problem != nil {
			ps.add("vtepMAC", problem.Reason, problem.Remedy)
		}
	}
}

func (c Config) memory(ps *Problems) {
	if c.ChunkSize != 2048 && c.ChunkSize != 4096 {
		ps.add("chunkSize", fmt.Sprintf("%d is not supported", c.ChunkSize), "write 2048, or 4096 for MTUs above 1500")
		return
	}
	if c.RingSize < 64 || c.RingSize > 32768 || c.RingSize&(c.RingSize-1) != 0 {
		ps.add("ringSize", fmt.Sprintf("%d is not a power of two from 64 to 32768", c.RingSize), "write 2048, or another of these")
		return
	}
	ps.within("fillDepth", c.FillDepth, 1, c.RingSize)
	if c.Frames != 0 {
		ps.within("frames", c.Frames, c.RingSize, 1<<22)
	}
	// What is received lies behind XDP_PACKET_HEADROOM, 256 bytes. A pod's packet
	// out of a tunnel has 50 bytes of outer headers and an Ethernet header more.
	if biggest := c.ChunkSize - 256 - 14 - 50; c.PodMTU != 0 {
		ps.within("podMTU", c.PodMTU, 576, biggest)
	}
}

func (c Config) masquerade(ps *Problems) {
	const maxFlows = 1 << 24 // 2 GiB of them
	if c.IPMasqAgentFile != "" {
		ps.path("ipMasqAgentFile", c.IPMasqAgentFile)
	}
	ps.oneOf("ipMasqAgentProfile", c.IPMasqAgentProfile, string(nat.ProfileCilium), string(nat.ProfileUpstream))
	ps.within("maxFlows", c.MaxFlows, 1024, maxFlows)
	ps.within("maxFlowsPerEndpoint", c.MaxFlowsPerEndpoint, 0, maxFlows)
	ps.within("maxPortsPerEndpoint", c.MaxPortsPerEndpoint, 0, maxFlows)
	// Below 1024 the kernel's own services have theirs (RFC 6335 6).
	const example = "write it as in 49152-65535"
	if r, err := nat.ParsePortRange(c.SNATPorts); err != nil {
		ps.add("snatPorts", err.Error(), example)
	} else if r.Low < 1024 {
		ps.add("snatPorts", fmt.Sprintf("%s begins below 1024", r), example)
	}
	ps.within("maxSnatAddresses", c.MaxSNATAddresses, 1, 256)
	c.Timeouts.check(ps, c.AllowShortTimeouts)
}

func (c Config) redirects(ps *Problems) {
	if c.Redirects != "" {
		ps.path("redirects", c.Redirects)
	}
	ps.duration("dnsDeadline", c.DNSDeadline, time.Millisecond, 5*time.Second)
	ps.within("dnsMaxQueries", c.DNSMaxQueries, 64, 65536)
	ps.within("dnsMaxQueriesPerEndpoint", c.DNSMaxQueriesPerEndpoint, 1, 65536)
	ps.duration("dnsProbeInterval", c.DNSProbeInterval, 50*time.Millisecond, time.Minute)
}

func (ps *Problems) duration(field, s string, low, high time.Duration) {
	if d, err := time.ParseDuration(s); err != nil || d < low || d > high {
		low, high := shortDuration(low), shortDuration(high)
		ps.add(field, fmt.Sprintf("%q is not a duration from %s to %s", clip(s), low, high), "write it as in "+high)
	}
}

func (ps *Problems) path(field, path string) {
	if !filepath.IsAbs(path) {
		ps.add(field, fmt.Sprintf("%q is not an absolute path", clip(path)), "start it with /")
	}
}

func (ps *Problems) within(field string, n, low, high int) {
	if n < low || n > high {
		ps.add(field, fmt.Sprintf("%d is out of range", n), fmt.Sprintf("choose %d to %d", low, high))
	}
}

func (ps *Problems) oneOf(field, s string, words ...string) {
	if !slices.Contains(words, s) {
		ps.add(field, fmt.Sprintf("%q is not known", clip(s)), "write "+strings.Join(words, " or "))
	}
}

func (ps *Problems) cpus(cpus []int) {
	for i, cpu := range cpus {
		field := fmt.Sprintf("cpus[%d]", i)
		ps.within(field, cpu, 0, 8191) // CONFIG_NR_CPUS at its largest
		if slices.Contains(cpus[:i], cpu) {
			ps.add(field, fmt.Sprintf("%d is there twice", cpu), "name each CPU once")
		}
	}
}

func (ps *Problems) uplinks(uplinks []Uplink) {
	if len(uplinks) == 0 {
		ps.add("uplinks", "there is none", "name at least one NIC, as in [{device: eth0}]")
	}
	seen := map[string]int{}
	for i, u := range uplinks {
		field := fmt.Sprintf("uplinks[%d]", i)
		ps.device(field+".device", u.Device)
		if first, ok := seen[u.Device]; ok {
			ps.add(field+".device", fmt.Sprintf("%q is also uplinks[%d]", u.Device, first), "name each NIC once")
		}
		seen[u.Device] = i
		ps.oneOf(field+".driver", u.Driver, "xsk", "asavie")
		ps.oneOf(field+".xdpMode", u.XDPMode, "auto", "native", "generic")
		ps.oneOf(field+".zeroCopy", u.ZeroCopy, "auto", "never", "always")
		ps.oneOf(field+".take", u.Take, "ours", "all")
	}
}

// device applies dev_valid_name of net/core/dev.c.
func (ps *Problems) device(field, name string) {
	switch {
	case name == "":
		ps.add(field, "missing", "name the NIC, as in eth0")
	case len(name) > 15 || name == "." || name == ".." || strings.ContainsAny(name, "/: \t\n\v\f\r"):
		ps.add(field, fmt.Sprintf("%q is no interface name", clip(name)), "use a name from ip link")
	}
}

// Access is who may do what by the socket.
func (c Config) Access() Access { return Access{SocketGroup: c.SocketGroup, AdminGroup: c.AdminGroup} }

// Dataplane is the part of a valid c that the dataplane is opened with.
func (c Config) Dataplane() dataplane.Config {
	spin, _ := time.ParseDuration(c.Spin) // Validate parsed these
	ports, _ := nat.ParsePortRange(c.SNATPorts)
	deadline, _ := time.ParseDuration(c.DNSDeadline)
	probes, _ := time.ParseDuration(c.DNSProbeInterval)
	out := dataplane.Config{
		Node:          c.Node,
		StateDir:      c.StateDir,
		PinDir:        c.PinDir,
		Workers:       c.Workers,
		CPUs:          c.CPUs,
		Scheduler:     c.Scheduler,
		Idle:          c.Idle,
		Spin:          spin,
		Frames:        c.Frames,
		ChunkSize:     c.ChunkSize,
		RingSize:      c.RingSize,
		FillDepth:     c.FillDepth,
		MaxEndpoints:  c.MaxEndpoints,
		PodMTU:        c.PodMTU,
		RestoreTables: c.RestoreTables,

		IPMasqFile:          c.IPMasqAgentFile,
		IPMasqProfile:       c.IPMasqAgentProfile,
		MaxFlows:            c.MaxFlows,
		MaxFlowsPerEndpoint: c.MaxFlowsPerEndpoint,
		MaxPortsPerEndpoint: c.MaxPortsPerEndpoint,
		SNATPorts:           [2]uint16{ports.Low, ports.High},
		MaxSNATAddresses:    c.MaxSNATAddresses,
		Timeouts:            c.Timeouts.flows(),

		RedirectsFile:            c.Redirects,
		DNSDeadline:              deadline,
		DNSMaxQueries:            c.DNSMaxQueries,
		DNSMaxQueriesPerEndpoint: c.DNSMaxQueriesPerEndpoint,
		DNSProbeInterval:         probes,
	}
	for _, u := range c.Uplinks {
		out.Uplinks = append(out.Uplinks, dataplane.UplinkConfig(u))
	}
	return out
}

// WriteConfig writes c as an agent.yaml in which every key is explained.
func WriteConfig(w io.Writer, c Config) error {
	return WriteConfigFile(w, "Configuration of ringway agent. Every key may be left out but uplinks.", c)
}

// writeUplinks shows the keys of an entry in a comment where there is none.
func writeUplinks(b *strings.Builder, uplinks []Uplink) {
	comment := ""
	if len(uplinks) == 0 {
		b.WriteString("uplinks: []\n# With one NIC, at the defaults:\n")
		comment, uplinks = "# ", []Uplink{defaultUplink("eth0")}
	}
	fmt.Fprintf(b, "%suplinks:\n", comment)
	for _, u := range uplinks {
		writeFields(b, comment+"  - ", comment+"    ", u)
	}
}

// writeFields writes a line for each field of a struct, first before the first
// one and rest before the others.
func writeFields(b *strings.Builder, first, rest string, fields any) {
	v := reflect.ValueOf(fields)
	indent := first
	for i := range v.NumField() {
		tag := v.Type().Field(i).Tag
		value := fmt.Sprint(v.Field(i))
		if value == "" {
			value = `""`
		}
		fmt.Fprintf(b, "%s%s: %s # %s\n", indent, tag.Get("json"), value, tag.Get("doc"))
		indent = rest
	}
}

func writeKey(b *strings.Builder, indent, key string, v reflect.Value) error {
	out, err := yaml.Marshal(v.Interface())
	if err != nil {
		return fmt.Errorf("write key %s: %w", key, err)
	}
	value := strings.TrimSpace(string(out))
	if strings.HasPrefix(value, "- ") {
		value = "\n" + value
	} else {
		value = " " + value
	}
	fmt.Fprintf(b, "%s%s:%s\n", indent, key, value)
	return nil
}
