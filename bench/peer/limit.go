package peer

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"ringway/bench/chain"
	"ringway/bench/thread"
	"ringway/dataplane/port"
	"ringway/dataplane/xsk"
	"ringway/packet"
)

const (
	limitRing   = 2048 // entries; as Ringway's default
	limitFill   = 1024
	limitFrames = 2*limitFill + 2*limitRing
	limitSpin   = 50 * time.Microsecond
)

// work is what is done to the frames of a batch before they are sent. Those that
// it wants sent are at the front afterwards, and it says how many; the others it
// has given back.
type work func(pool *port.Pool, frames []port.Desc) int

// Limit moves frames from A to B by the same rings that Ringway uses, in one
// thread, and does next to nothing with them: what no pipeline can beat.
type Limit struct {
	work   work
	output func(chain.Traffic) chain.Expect

	stopping atomic.Bool
	done     chan struct{}
	err      error
}

// NewLimit returns a DUT that exchanges source and destination MAC of each frame.
func NewLimit() *Limit { return &Limit{work: swapMACs, output: chain.Traffic.Swapped} }

// Name of the column.
func (*Limit) Name() string { return LimitName }

// Output is the offered frame with its MACs swapped.
func (l *Limit) Output(t chain.Traffic) chain.Expect { return l.output(t) }

func swapMACs(pool *port.Pool, frames []port.Desc) int {
	for i := range frames {
		addr := frames[i].Addr
		f := pool.Chunk(addr)[addr-pool.Base(addr):]
		var mac [6]byte
		copy(mac[:], f)
		copy(f, f[6:12])
		copy(f[6:12], mac[:])
	}
	return len(frames)
}

// Start opens the rings and starts the thread.
func (l *Limit) Start(_ context.Context, env chain.Env) error {
	l.stopping.Store(false)
	l.done = make(chan struct{})
	started := make(chan error, 1)
	thread.Go(func() {
		defer close(l.done)
		m := &mover{work: l.work, stopping: &l.stopping}
		err := errors.Join(env.NS.Enter(), m.open(env))
		if err == nil {
			err = prepareThread(env.Layout)
		}
		started <- err
		if err == nil {
			m.run(env.Layout)
		}
		l.err = m.close()
	})
	return <-started
}

// prepareThread gives the calling thread the place that a Ringway worker has in
// the same layout.
func prepareThread(l chain.Layout) error {
	if err := thread.Pin(l.DUT); err != nil {
		return err
	}
	if l.Shared() {
		return thread.RealTime()
	}
	return nil
}

// Stop ends the thread and closes the rings.
func (l *Limit) Stop() error {
	if l.done == nil {
		return nil
	}
	l.stopping.Store(true)
	<-l.done
	l.done = nil
	return l.err
}

// mover belongs to one thread.
type mover struct {
	work     work
	stopping *atomic.Bool

	umem     *xsk.UMEM
	in, out  *xsk.Socket
	closings []func() error
	batch    [packet.BatchSize]port.Desc
}

func (m *mover) open(env chain.Env) error {
	var err error
	if m.umem, err = xsk.NewUMEM(xsk.UMEMOptions{Frames: limitFrames, ChunkSize: 2048}); err != nil {
		return fmt.Errorf("make a UMEM: %w", err)
	}
	m.closings = append(m.closings, m.umem.Close)
	if m.in, err = m.openQueue(env.A); err != nil {
		return err
	}
	if m.out, err = m.openQueue(env.B); err != nil {
		return err
	}
	return m.attach(env.A)
}

func (m *mover) openQueue(device string) (*xsk.Socket, error) {
	dev, err := net.InterfaceByName(device)
	if err != nil {
		return nil, fmt.Errorf("find %s: %w", device, err)
	}
	s, err := xsk.Open(m.umem, xsk.Options{
		Ifindex: dev.Index, FillSize: limitRing, RXSize: limitRing, TXSize: limitRing,
		CompletionSize: limitRing, FillDepth: limitFill, ZeroCopy: "auto",
	})
	if err != nil {
		return nil, err
	}
	m.closings = append(m.closings, s.Close)
	return s, nil
}

// attach has every frame that device receives redirected to its socket.
func (m *mover) attach(device string) error {
	dev, err := net.InterfaceByName(device)
	if err != nil {
		return fmt.Errorf("find %s: %w", device, err)
	}
	sockets, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.XSKMap, KeySize: 4, ValueSize: 4, MaxEntries: 1})
	if err != nil {
		return fmt.Errorf("make an XSKMAP: %w", err)
	}
	m.closings = append(m.closings, sockets.Close)
	if err := sockets.Put(uint32(0), uint32(m.in.FD())); err != nil {
		return fmt.Errorf("put the socket into its map: %w", err)
	}
	prog, err := ebpf.NewProgram(redirectAll(sockets))
	if err != nil {
		return fmt.Errorf("load the redirecting program: %w", err)
	}
	m.closings = append(m.closings, prog.Close)
	l, err := link.AttachXDP(link.XDPOptions{Program: prog, Interface: dev.Index, Flags: link.XDPDriverMode})
	if err != nil {
		return fmt.Errorf("attach XDP to %s: %w", device, err)
	}
	m.closings = append(m.closings, l.Close)
	return nil
}

// redirectAll is return bpf_redirect_map(&sockets, ctx->rx_queue_index, XDP_DROP).
func redirectAll(sockets *ebpf.Map) *ebpf.ProgramSpec {
	const rxQueueIndex, drop = 16, 1 // struct xdp_md, enum xdp_action: include/uapi/linux/bpf.h
	return &ebpf.ProgramSpec{
		Name: "redirect_all", Type: ebpf.XDP,
		Instructions: asm.Instructions{
			asm.LoadMem(asm.R2, asm.R1, rxQueueIndex, asm.Word),
			asm.LoadMapPtr(asm.R1, sockets.FD()),
			asm.Mov.Imm(asm.R3, drop),
			asm.FnRedirectMap.Call(),
			asm.Return(),
		},
	}
}

func (m *mover) close() error {
	var errs []error
	for i := len(m.closings) - 1; i >= 0; i-- {
		errs = append(errs, m.closings[i]())
	}
	return errors.Join(errs...)
}

// run moves frames, and rests as a Ringway worker does.
func (m *mover) run(l chain.Layout) {
	spin := limitSpin
	if l.Shared() {
		spin = 0
	}
	fds := []unix.PollFd{{Fd: int32(m.in.FD()), Events: unix.POLLIN}}
	var idleSince time.Time
	for !m.stopping.Load() {
		if m.round() > 0 {
			idleSince = time.Time{}
			continue
		}
		if spin > 0 && idleSince.IsZero() {
			idleSince = time.Now()
		}
		if spin > 0 && time.Since(idleSince) < spin {
			continue
		}
		timeout := 100 // milliseconds: how long Stop waits at most
		if m.out.Unsent() > 0 {
			timeout = 1
		}
		_, _ = unix.Poll(fds, timeout) // whatever it says, the next round looks
	}
}

// round takes a batch from A to B and says how many frames came.
func (m *mover) round() int {
	m.out.Reclaim()
	n := m.in.Receive(m.batch[:])
	if n > 0 {
		m.send(m.batch[:m.work(m.umem.Pool(), m.batch[:n])])
	}
	if m.out.Unsent() > 0 {
		m.out.Kick()
	}
	m.in.Refill()
	return n
}

// send drops what the TX ring has no room for.
func (m *mover) send(frames []port.Desc) {
	for i := m.out.Transmit(frames); i < len(frames); i++ {
		m.umem.Pool().Put(frames[i].Addr)
	}
}
