package dataplane

import "time"

// Config is what Open needs to know. control reads it from agent.yaml; every
// field has its default in DefaultConfig.
type Config struct {
	Node     string // our name in the table set
	StateDir string // endpoints.json, last table set; must survive a restart of the agent
	PinDir   string // on a bpffs, which is mounted there if there is none

	Uplinks []UplinkConfig

	Workers   int    // worker threads; 0: one
	CPUs      []int  // CPU set of the workers, handed out in order; empty: any
	Scheduler string // "other" or "fifo" (SCHED_FIFO, priority 1)
	Idle      string // "busy": always spin; "adaptive": spin Spin long, then sleep; "interrupt": sleep at once
	Spin      time.Duration

	Frames       int // per worker, a power of two is not needed; 0: what rings and endpoints need
	ChunkSize    int // bytes: 2048, or 4096 for MTUs above 1500
	RingSize     int // entries of RX, TX and completion rings; a power of two
	FillDepth    int // frames kept on each fill ring; at most RingSize
	MaxEndpoints int
	PodMTU       int // 0: derived from the uplinks and the routing mode

	RestoreTables bool // start with the last applied set from StateDir

	IPMasqFile    string // ip-masq-agent file, watched; "": none
	IPMasqProfile string // its dialect: "cilium" or "upstream"

	MaxFlows            int       // of the whole node
	MaxFlowsPerEndpoint int       // 0: no limit but MaxFlows
	MaxPortsPerEndpoint int       // SNAT ports; 0: no limit
	SNATPorts           [2]uint16 // first and last port for SNAT on the node's own addresses
	MaxSNATAddresses    int       // addresses for SNAT, the uplinks' own included
	Timeouts            FlowTimeouts

	RedirectsFile            string        // file or directory of LocalRedirectPolicy YAML, watched; "": none
	DNSDeadline              time.Duration // for the answer of a redirect's backend, before the original service is asked
	DNSMaxQueries            int           // in flight at once, of one worker
	DNSMaxQueriesPerEndpoint int           // of these, of one pod
	DNSProbeInterval         time.Duration // between two health probes of a redirect's backend
}

// FlowTimeouts say how long a flow lives after its last packet.
type FlowTimeouts struct {
	TCPEstablished time.Duration
	TCPTransitory  time.Duration // opening, closing, closed and reset connections
	UDP            time.Duration
	ICMP           time.Duration // echo
	DNS            time.Duration // UDP to port 53, unanswered
	DNSAnswered    time.Duration
	Other          time.Duration // other protocols, SCTP among them
}

// UplinkConfig names one NIC.
type UplinkConfig struct {
	Device   string
	Driver   string // "xsk" or "asavie"
	XDPMode  string // "auto": native, else generic; "native"; "generic"
	ZeroCopy string // "auto", "never", "always"
	Take     string // "ours": what is ours; "all": all IPv4 but the host's own addresses
	OwnUMEM  bool   // a UMEM of its own instead of the worker's; implied by asavie and zero-copy
}

// DefaultConfig is a Config with every default filled in; Node and Uplinks are
// the caller's to set.
func DefaultConfig() Config {
	return Config{
		StateDir:      "/run/ringway/state",
		PinDir:        "/sys/fs/bpf/ringway",
		Workers:       1,
		Scheduler:     "other",
		Idle:          "adaptive",
		Spin:          50 * time.Microsecond,
		ChunkSize:     2048,
		RingSize:      2048,
		FillDepth:     1024,
		MaxEndpoints:  256,
		RestoreTables: true,

		IPMasqProfile:       "cilium",
		MaxFlows:            1 << 20,
		MaxFlowsPerEndpoint: 1 << 18,
		SNATPorts:           [2]uint16{49152, 65535},
		MaxSNATAddresses:    16,
		Timeouts: FlowTimeouts{
			TCPEstablished: 2*time.Hour + 4*time.Minute, // RFC 5382 REQ-5
			TCPTransitory:  4 * time.Minute,             // RFC 5382 REQ-5
			UDP:            5 * time.Minute,             // RFC 4787 REQ-5
			ICMP:           time.Minute,                 // RFC 5508 REQ-2
			DNS:            30 * time.Second,            // RFC 4787 REQ-5 a: a well-known port may have less
			DNSAnswered:    5 * time.Second,
			Other:          2 * time.Minute,
		},

		DNSDeadline:              200 * time.Millisecond,
		DNSMaxQueries:            4096,
		DNSMaxQueriesPerEndpoint: 256,
		DNSProbeInterval:         500 * time.Millisecond,
	}
}

// DefaultUplink is the configuration of an uplink of which only the device is
// given.
func DefaultUplink(device string) UplinkConfig {
	return UplinkConfig{Device: device, Driver: "xsk", XDPMode: "auto", ZeroCopy: "auto", Take: "ours"}
}
