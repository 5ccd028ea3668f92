package dataplane

import (
	"net/netip"
	"time"
)

// The types below are what the dataplane shows of itself; control turns them
// into ringway.v1.

// Status of the whole dataplane. Reasons is empty exactly if it is healthy.
type Status struct {
	Node          string
	Started       time.Time
	TablesVersion uint64
	TablesApplied time.Time // zero: none yet
	TablesSource  string    // "file:PATH", "api", "state", ""
	TablesError   string    // why the last offered set was refused; empty: it was not
	Routing       Routing
	VXLAN         VXLAN
	Generation    uint64 // of the snapshot that workers use
	Routes        int
	Workers       []WorkerStatus
	Ports         []PortStatus
	Endpoints     int
	MaxEndpoints  int
	Conntrack     ConntrackStatus
	Masquerade    MasqueradeStatus
	Policy        PolicyStatus
	MemoryBytes   uint64 // UMEM, rings and what the kernel keeps for them
	Reasons       []string
}

// WorkerStatus of one worker.
type WorkerStatus struct {
	ID         int
	CPUs       []int
	Scheduler  string // "fifo", "other"
	Idle       string // "busy", "adaptive", "interrupt"
	Batches    uint64
	Received   uint64 // packets off the rings of its ports
	Originated uint64 // packets that it made
	Forwarded  uint64
	ToHost     uint64
	Dropped    uint64
	HandedOver uint64 // to other workers
	Sleeps     uint64
	Panics     uint64
	Frames     FrameStatus
}

// FrameStatus says where the frames of a worker's UMEMs are. Total is the sum
// of the others; a difference is a leak.
type FrameStatus struct{ Total, Free, Fill, RX, TX, Completion, Held int }

// PortStatus of one queue of one port.
type PortStatus struct {
	Name     string
	Kind     string // "uplink", "trunk"
	Device   string
	Ifindex  int
	Queue    int
	Worker   int
	Driver   string // "xsk", "asavie"
	XDPMode  string // "native", "generic"
	ZeroCopy bool
	State    string // "up", "down", "gone"
	MTU      int
	Counters map[string]uint64 // rx, tx, kernel statistics, program counters
}

// RouteStatus is one entry of the FIB.
type RouteStatus struct {
	Prefix netip.Prefix
	Kind   string     // "endpoint", "host", "overlay", "direct", "on-link", "local-cidr", "unreachable", "prohibit", "blackhole"
	Via    netip.Addr // VTEP or gateway; invalid: on-link or none
	Port   string
	MTU    int
	Source string // "endpoint", "host", "tables", "neighbour", "kernel"
	Node   string // of the table set, where it leads to one
}

// NeighbourStatus is one neighbour on an uplink.
type NeighbourStatus struct {
	Address netip.Addr
	MAC     string
	Port    string
	State   string // the kernel's words: "reachable", "stale", "failed", ...
}

// NodeStatus is one node of the table set with what we learned of the way to it.
type NodeStatus struct {
	Node
	Local          bool
	Mode           string // "local", "overlay", "direct", "kernel-route"
	PathMTU        int    // of the outer packet; 0: nothing learned
	PathMTUExpires time.Time
}

// EndpointStatus is one attached pod.
type EndpointStatus struct {
	Name                                   string
	Address                                netip.Addr
	MAC                                    string
	Netns                                  string
	Ifname                                 string // inside the pod
	Device                                 string // our end
	Ifindex                                int
	Slot                                   uint32
	Worker                                 int
	Labels                                 map[string]string
	Ports                                  []string // that policies may name, as in http=80/TCP
	State                                  string   // "up", "down"
	RXPackets, RXBytes, TXPackets, TXBytes uint64   // as the pod's peer sees it: RX came from the pod
}

// DropStatus is the count of one drop reason.
type DropStatus struct {
	Reason   string
	Sentence string
	Benign   bool
	Packets  uint64
}

// EndpointRequest asks for an endpoint.
type EndpointRequest struct {
	Name    string
	Netns   string     // path, or a name under /run/netns
	Address netip.Addr // inside one of our node CIDRs; invalid: one that is free
	Ifname  string     // inside the pod, default eth0
	Labels  map[string]string
	Ports   []string // that policies may name, as in http=80/TCP
}

// CaptureRequest selects what to capture.
type CaptureRequest struct {
	Port    string // a port or endpoint name; empty: all
	SnapLen int    // bytes kept of each packet; 0: all
	RX, TX  bool
}

// CapturedPacket is a copy of a packet as it was on the wire of its port.
type CapturedPacket struct {
	Port     string
	Received bool // else transmitted
	Time     time.Time
	Length   int // on the wire
	Data     []byte
}
