// Package gen makes packets as fast as a core can: an XDP program run by
// BPF_PROG_TEST_RUN with live frames writes them, flow after flow, and redirects
// them out of a device, without an skb and without a copy.
package gen

//go:generate go tool bpf2go -cc clang-14 -strip llvm-strip-14 -cflags "-O2 -g -Wall -Werror -idirafter /usr/include/x86_64-linux-gnu -idirafter /usr/include/aarch64-linux-gnu" -target bpfel gen gen.bpf.c

import (
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"ringway/bench/thread"
)

// Flow n has, where flow 0 has 0, n modulo 65536 in the low half of its source
// address and n, in 32 bits, in the first bytes of its payload. Its source port is
// Port(n) above that of flow 0, its destination address n modulo
// Options.Destinations. Source address and port together never come twice.
const (
	MaxFlows    = 65536 * Ports
	Ports       = 50000
	MaxBasePort = 65535 - Ports
	// FlowNumber is where the number of a flow lies in a plain frame.
	FlowNumber = 42
	// QueryID and QueryNumber are where the transaction ID and the number of a DNS
	// query lie. The ID is the low half of the number.
	QueryID     = 42
	QueryNumber = 56
)

// Port is how far the source port of a flow is above that of flow 0.
func Port(flow int) int { return (flow&0xffff + flow>>16) % Ports }

const (
	plainHeader = 48 // bytes that the program for plain frames rewrites
	vxlanHeader = 96 // and the one for VXLAN frames
	innerOffset = 50
	ipCheck     = 24
	ipSourceLow = 28
	ipDestLow   = 32
	udpSource   = 34
	udpCheck    = 40
)

const xdpRedirect = 4 // enum xdp_action

// batch is how many frames the kernel makes before it sends them. 64 is the most
// that a veth's ring of 256 takes without drops of its own.
const batch = 64

// Options of a generator.
type Options struct {
	// Frame is the whole frame of flow 0: Ethernet, IPv4 without options, UDP; in
	// VXLAN the same again inside. If the (innermost) UDP checksum is 0, that of
	// no flow is there. The low half of the source address and the flow number
	// must be 0, and so must the bits of the destination that Destinations fills.
	Frame []byte
	VXLAN bool
	Flows int // 1 to MaxFlows, used in turn; the next run goes on where one ended
	// Destinations is how many addresses the flows go to: a power of two up to 256.
	Destinations int
	Ifindex      int // of the device to send on, in the namespace of the running thread
	// DNS has Frame taken for a DNS query, and Flows for how many numbers queries have.
	DNS *DNS
}

// DNS says how queries are asked: query n has source port n modulo Ports above that of
// Frame, n modulo 65536 as transaction ID, and n in the bytes of its name at
// QueryNumber. No more than Window queries wait for an answer; after 250 ms without
// any answer the rest are given up.
type DNS struct {
	Ports, Window int
	Answers       *ebpf.Map // per CPU, its first 64 bits count the answers; borrowed until New returns
}

// Generator is a loaded program. Its methods may be called from any goroutine;
// at most one Run at a time.
type Generator struct {
	objs  genObjects
	prog  *ebpf.Program
	frame []byte
}

// New loads the program for o.
func New(o Options) (*Generator, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	spec, err := loadGen()
	if err != nil {
		return nil, fmt.Errorf("read the generator's program: %w", err)
	}
	if err := o.set(spec); err != nil {
		return nil, err
	}
	g := &Generator{frame: o.Frame}
	if err := spec.LoadAndAssign(&g.objs, o.collection()); err != nil {
		return nil, fmt.Errorf("load the generator: %w", err)
	}
	switch {
	case o.DNS != nil:
		g.prog = g.objs.GenDns
	case o.VXLAN:
		g.prog = g.objs.GenVxlan
	default:
		g.prog = g.objs.GenPlain
	}
	return g, nil
}

func (o Options) collection() *ebpf.CollectionOptions {
	if o.DNS == nil {
		return nil
	}
	return &ebpf.CollectionOptions{MapReplacements: map[string]*ebpf.Map{"totals": o.DNS.Answers}}
}

func (o Options) header() int {
	if o.VXLAN {
		return vxlanHeader
	}
	return plainHeader
}

func (o Options) inner() int {
	if o.VXLAN {
		return innerOffset
	}
	return 0
}

// field is 16 bits of the innermost headers.
func (o Options) field(at int) int {
	return int(binary.BigEndian.Uint16(o.Frame[o.inner()+at:]))
}

func (o Options) check() error {
	if o.DNS != nil {
		return o.checkDNS()
	}
	n := o.Destinations
	switch {
	case len(o.Frame) < o.header():
		return fmt.Errorf("frame of %d bytes: at least %d", len(o.Frame), o.header())
	case o.Flows < 1 || o.Flows > MaxFlows:
		return fmt.Errorf("%d flows: 1 to %d", o.Flows, MaxFlows)
	case n < 1 || n > 256 || n&(n-1) != 0:
		return fmt.Errorf("%d destinations: a power of two up to 256", n)
	case o.field(ipSourceLow) != 0:
		return errors.New("the frame's source address must end in .0.0")
	case o.field(ipDestLow)&(n-1) != 0:
		return fmt.Errorf("the frame's destination address must be the first of %d", n)
	case o.field(FlowNumber) != 0 || o.field(FlowNumber+2) != 0:
		return errors.New("the frame must be of flow 0")
	case o.field(udpSource) > MaxBasePort:
		return fmt.Errorf("the frame's source port is above %d", MaxBasePort)
	}
	return nil
}

func (o Options) checkDNS() error {
	switch {
	case len(o.Frame) < QueryNumber+4:
		return fmt.Errorf("query of %d bytes: at least %d", len(o.Frame), QueryNumber+4)
	case o.Flows < 1 || o.Flows > MaxFlows:
		return fmt.Errorf("%d queries: 1 to %d", o.Flows, MaxFlows)
	case o.DNS.Ports < 1 || o.DNS.Ports > Ports || o.DNS.Window < 1:
		return fmt.Errorf("%d ports, %d queries at a time: 1 to %d, and at least 1", o.DNS.Ports, o.DNS.Window, Ports)
	case o.field(QueryID) != 0 || o.field(QueryNumber) != 0 || o.field(QueryNumber+2) != 0:
		return errors.New("the frame must be of query 0")
	case o.field(udpSource) > MaxBasePort:
		return fmt.Errorf("the frame's source port is above %d", MaxBasePort)
	}
	return nil
}

func (o Options) set(spec *ebpf.CollectionSpec) error {
	var words [vxlanHeader / 8]uint64
	for i := 0; i < o.header()/8; i++ {
		words[i] = binary.NativeEndian.Uint64(o.Frame[8*i:])
	}
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		return fmt.Errorf("count the CPUs: %w", err)
	}
	dns := DNS{Ports: 1}
	if o.DNS != nil {
		dns = *o.DNS
	}
	for name, value := range map[string]any{
		"ports":          uint32(dns.Ports),
		"window":         uint32(dns.Window),
		"cpus":           uint32(cpus),
		"template_words": words,
		"base_check":     uint32(o.field(ipCheck)),
		"base_dest":      uint32(o.field(ipDestLow)),
		"base_port":      uint32(o.field(udpSource)),
		"base_udp_check": uint32(o.field(udpCheck)),
		"flows":          uint32(o.Flows),
		"destinations":   uint32(o.Destinations),
		"out_ifindex":    uint32(o.Ifindex),
	} {
		if err := spec.Variables[name].Set(value); err != nil {
			return fmt.Errorf("set %s of the generator: %w", name, err)
		}
	}
	return nil
}

// Make runs the program once over page, which has the length of the frame, and
// returns the frame without sending it: what a run would send next.
func (g *Generator) Make(page []byte) ([]byte, error) {
	o := ebpf.RunOptions{Data: page, DataOut: make([]byte, len(page))}
	action, err := g.prog.Run(&o)
	if err != nil {
		return nil, fmt.Errorf("make a frame: %w", err)
	}
	if action != xdpRedirect {
		return nil, fmt.Errorf("make a frame: the program returned %d", action)
	}
	return o.DataOut, nil
}

// Generated is how many frames were made so far.
func (g *Generator) Generated() (uint64, error) {
	var n uint64
	if err := g.objs.Generated.Get(&n); err != nil {
		return 0, fmt.Errorf("read the generator's counter: %w", err)
	}
	return n, nil
}

// Close unloads the program; no Run may be under way.
func (g *Generator) Close() error { return g.objs.Close() }

// runAttr is the part of union bpf_attr for BPF_PROG_TEST_RUN,
// include/uapi/linux/bpf.h.
type runAttr struct {
	progFD, retval          uint32
	dataSizeIn, dataSizeOut uint32
	dataIn, dataOut         uint64
	repeat, duration        uint32
	ctxSizeIn, ctxSizeOut   uint32
	ctxIn, ctxOut           uint64
	flags, cpu, batch       uint32
	_                       uint32
}

// Run is a run of a generator under way.
type Run struct {
	stopping atomic.Bool
	tid      int
	done     chan struct{}
	err      error
}

// Start runs the generator on a thread of its own until Stop, or until it made
// count frames (rounded up to a batch; 0: for ever). enter is called on that
// thread first: it pins it and takes it to the namespace of the device. The
// thread ends with the run.
func (g *Generator) Start(count uint32, enter func() error) (*Run, error) {
	r := &Run{done: make(chan struct{})}
	ready := make(chan error, 1)
	thread.Go(func() {
		defer close(r.done)
		r.tid = unix.Gettid()
		err := enter()
		ready <- err
		if err == nil {
			r.err = g.loop(count, &r.stopping)
		}
	})
	if err := <-ready; err != nil {
		<-r.done
		return nil, fmt.Errorf("prepare the generator's thread: %w", err)
	}
	return r, nil
}

// loop calls the kernel itself, because Program.Run takes a signal for an
// accident and starts again, while here it is the only way to end a run: many
// short runs would spend their time in the 25 ms and more that each needs to
// tear its page pool down.
func (g *Generator) loop(count uint32, stopping *atomic.Bool) error {
	repeat := count
	if count == 0 {
		repeat = 1<<32 - 1
	}
	for !stopping.Load() {
		errno := g.run(repeat)
		if errno == unix.EINTR && !stopping.Load() {
			continue // a signal that was not ours
		}
		if errno != 0 && errno != unix.EINTR {
			return fmt.Errorf("BPF_PROG_TEST_RUN with live frames: %w", errno)
		}
		if count != 0 {
			return nil
		}
	}
	return nil
}

func (g *Generator) run(repeat uint32) unix.Errno {
	attr := runAttr{
		progFD:     uint32(g.prog.FD()),
		dataSizeIn: uint32(len(g.frame)),
		dataIn:     uint64(uintptr(unsafe.Pointer(&g.frame[0]))),
		repeat:     repeat,
		flags:      unix.BPF_F_TEST_XDP_LIVE_FRAMES,
		batch:      batch,
	}
	_, _, errno := unix.Syscall(unix.SYS_BPF, unix.BPF_PROG_TEST_RUN,
		uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr))
	runtime.KeepAlive(g)
	return errno
}

// Stop ends the run and waits for its thread.
func (r *Run) Stop() error {
	r.stopping.Store(true)
	for {
		// The kernel looks for pending signals after each batch. SIGURG is the one
		// that the Go runtime sends to threads itself and otherwise ignores. It
		// may come just before the call into the kernel, so it is repeated.
		_ = unix.Tgkill(unix.Getpid(), r.tid, unix.SIGURG)
		select {
		case <-r.done:
			return r.err
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// Wait waits for a run with a count to end.
func (r *Run) Wait() error {
	<-r.done
	return r.err
}
