package natconf

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"ringway/packet"
	"ringway/packet/packettest"
)

// scene is what a probe has: two pods behind a NAT, and the world outside.
type scene struct {
	dev  device
	a, b *station // inside
	out  *station // outside; it has all addresses of the realm
	realm

	since map[*station]int // how many datagrams had arrived when the probe began

	// owners are the pods' ports by what they are outside; overloaded says which of
	// these has two.
	owners     map[mapping]endpoint
	overloaded *string
}

type mapping struct {
	proto uint8
	ext   endpoint
}

// realm is a part of the outside for which the NAT is configured in a way of its
// own: by the destination's address.
type realm struct {
	o1, o2 uint32
	x      []uint32 // what the NAT translates to
}

// newScene makes the scene of one probe.
func newScene(dev device, r realmName) *scene {
	n := dev.common()
	s := &scene{
		dev: dev, a: n.a, b: n.b, out: n.out, realm: n.realms[r],
		since: map[*station]int{}, owners: map[mapping]endpoint{}, overloaded: new(string),
	}
	for _, at := range []*station{s.a, s.b, s.out} {
		s.since[at] = at.count()
	}
	return s
}

// in is the same scene with another part of the outside.
func (s *scene) in(r realmName) *scene {
	other := *s
	other.realm = s.dev.common().realms[r]
	return &other
}

// own notes what a pod's port is called outside.
func (s *scene) own(proto uint8, ext, pod endpoint) {
	m := mapping{proto, ext}
	if other, taken := s.owners[m]; taken && other != pod {
		*s.overloaded = fmt.Sprintf("%s and %s both left as %s", other, pod, ext)
	}
	s.owners[m] = pod
}

// noneShared tells whether two of the pods' ports were one outside.
func (s *scene) noneShared() error {
	if *s.overloaded != "" {
		return errors.New(*s.overloaded)
	}
	return nil
}

// broken is an error of the lab itself: it says nothing about the NAT.
type broken struct{ error }

// missing is what expect says of a datagram that did not come.
type missing struct{ what, at string }

func (m *missing) Error() string { return fmt.Sprintf("%s: nothing came to %s", m.what, m.at) }

// absent turns the error of an expectation round: a datagram that came is the
// failure.
func absent(err error, what string) error {
	var m *missing
	switch {
	case errors.As(err, &m):
		return nil
	case err == nil:
		return errors.New(what)
	}
	return err
}

// Ports and tags are never used twice in a run, so that no probe meets the flows
// or the datagrams of another one.
var lastPort, lastTag atomic.Uint64

const firstPort = 2000

func newPort() uint16 { return uint16(firstPort + lastPort.Add(1)) }

func newTag() []byte { return binary.BigEndian.AppendUint64([]byte("probe"), lastTag.Add(1)) }

// grace is for what is on its way in another CPU's backlog when everything that
// was sent later has arrived.
const grace = 5 * time.Millisecond

// expect gives the datagram that matches. It is missing when it has not come
// after datagrams that were sent later have passed the NAT in both directions:
// the clock decides nothing.
func (s *scene) expect(at *station, what string, match func(*datagram) bool) (*datagram, error) {
	d := at.wait(s.since[at], 10*time.Millisecond, match)
	if d == nil {
		if err := s.settle(); err != nil {
			return nil, err
		}
		if d = s.find(at, match); d == nil {
			return nil, &missing{what, at.name}
		}
	}
	if err := d.checksums(); err != nil {
		return nil, fmt.Errorf("%s: came to %s with a %w", what, at.name, err)
	}
	return d, nil
}

// find gives a datagram that has arrived since the probe began, or nil.
func (s *scene) find(at *station, match func(*datagram) bool) *datagram {
	return at.find(s.since[at], match)
}

// settle returns when all that was sent before has arrived, or never will.
func (s *scene) settle() error {
	for range 2 {
		for _, pod := range []*station{s.a, s.b} {
			if err := s.fence(pod); err != nil {
				return err
			}
		}
	}
	time.Sleep(grace)
	return nil
}

const (
	fencePort     = 1999
	fencePatience = 5 * time.Second
)

// fence sends a datagram out and one back in.
func (s *scene) fence(pod *station) error {
	o := s.dev.common().realms[ordinary].o1
	tag := newTag()
	carriesTag := func(d *datagram) bool { return d.carries(tag) }
	from := s.out.count()
	err := pod.send(packettest.IPv4{Src: pod.addr, Dst: o, Proto: packet.ProtoUDP}, packettest.UDP{Src: fencePort, Dst: fencePort}, packettest.Payload(tag))
	if err != nil {
		return err
	}
	d := s.out.wait(from, fencePatience, carriesTag)
	if d == nil {
		return &broken{fmt.Errorf("a fence from %s does not come out", pod.name)}
	}
	from = pod.count()
	err = s.out.send(packettest.IPv4{Src: o, Dst: d.src, Proto: packet.ProtoUDP}, packettest.UDP{Src: fencePort, Dst: d.srcPort}, packettest.Payload(tag))
	if err != nil {
		return err
	}
	if pod.wait(from, fencePatience, carriesTag) == nil {
		return &broken{fmt.Errorf("a fence to %s does not come in", pod.name)}
	}
	return nil
}

func isFence(d *datagram) bool {
	return d.proto == packet.ProtoUDP && (d.srcPort == fencePort || d.dstPort == fencePort)
}

// firstError runs checks until one fails.
func firstError(checks ...func() error) error {
	for _, check := range checks {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}
