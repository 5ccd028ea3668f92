// Package sink counts, at the far end of a device under test, the frames that
// look as they should, and drops them at the earliest point of the stack.
package sink

//go:generate go tool bpf2go -cc clang-14 -strip llvm-strip-14 -cflags "-O2 -g -Wall -Werror -idirafter /usr/include/x86_64-linux-gnu -idirafter /usr/include/aarch64-linux-gnu" -target bpfel -type counts sink sink.bpf.c

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"

	"ringway/bench/ingress"
)

const (
	shortHeader = 48 // bytes compared of a frame shorter than longHeader
	longHeader  = 96
)

// Counts of a sink since it was made.
type Counts struct {
	Good  uint64 // frames as expected
	Bytes uint64 // of those, from the Ethernet header on
	Bad   uint64 // other IPv4 frames
}

// Sink is a loaded and attached program. It stays attached as long as its device
// exists.
type Sink struct{ objs sinkObjects }

// Options of a sink. A frame is good if it has the length of Frame and equals it
// in every bit that is set in Mask, as far as its first 96 bytes (48 if it is
// shorter).
type Options struct {
	Frame, Mask []byte
	FlowAt      int // where frames have the number of their flow, 32 bits big-endian, in the bytes above
}

// Attach puts a sink on the ingress of a device in the namespace of the calling
// thread.
func Attach(dev netlink.Link, o Options) (*Sink, error) {
	s, err := load(o)
	if err != nil {
		return nil, err
	}
	if err := ingress.Attach(dev, s.objs.Sink, "sink"); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func load(o Options) (*Sink, error) {
	frame, mask, header := o.Frame, o.Mask, longHeader
	if len(frame) < longHeader {
		header = shortHeader
	}
	if len(frame) < header || len(mask) != len(frame) {
		return nil, fmt.Errorf("expected frame of %d bytes with a mask of %d: at least %d, and equal", len(frame), len(mask), shortHeader)
	}
	var values, masks [longHeader / 8]uint64
	for i := 0; i < header/8; i++ {
		masks[i] = binary.NativeEndian.Uint64(mask[8*i:])
		values[i] = binary.NativeEndian.Uint64(frame[8*i:]) & masks[i]
	}
	spec, err := loadSink()
	if err != nil {
		return nil, fmt.Errorf("read the sink's program: %w", err)
	}
	for name, value := range map[string]any{
		"value": values, "mask": masks, "words": uint32(header / 8), "length": uint32(len(frame)), "flow_at": uint32(o.FlowAt),
	} {
		if err := spec.Variables[name].Set(value); err != nil {
			return nil, fmt.Errorf("set %s of the sink: %w", name, err)
		}
	}
	s := &Sink{}
	if err := spec.LoadAndAssign(&s.objs, nil); err != nil {
		return nil, fmt.Errorf("load the sink: %w", err)
	}
	return s, nil
}

// Totals is the sink's map of counters, of which the first is of good frames, per CPU.
// It belongs to the sink.
func (s *Sink) Totals() *ebpf.Map { return s.objs.Totals }

// Counts reads the counters of all CPUs.
func (s *Sink) Counts() (Counts, error) {
	perCPU := make([]sinkCounts, ebpf.MustPossibleCPU())
	if err := s.objs.Totals.Lookup(uint32(0), &perCPU); err != nil {
		return Counts{}, fmt.Errorf("read the sink's counters: %w", err)
	}
	var sum Counts
	for _, c := range perCPU {
		sum.Good += c.Good
		sum.Bytes += c.Bytes
		sum.Bad += c.Bad
	}
	return sum, nil
}

// Mark has the flows of good frames counted from now on, or no more.
func (s *Sink) Mark(on bool) error {
	var marking uint32
	if on {
		marking = 1
	}
	if err := s.objs.Marking.Set(marking); err != nil {
		return fmt.Errorf("have the sink mark flows: %w", err)
	}
	return nil
}

// Flows is how many different flows were marked so far.
func (s *Sink) Flows() (int, error) {
	seen := make([]byte, s.objs.Seen.Size())
	if err := s.objs.Seen.Get(seen); err != nil {
		return 0, fmt.Errorf("read the flows at the sink: %w", err)
	}
	return bytes.Count(seen, []byte{1}), nil
}

// Close unloads the program once its device is gone too.
func (s *Sink) Close() error { return s.objs.Close() }
