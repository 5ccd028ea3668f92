package icmperr

import (
	"testing"
	"time"

	"ringway/packet"
	"ringway/packet/packettest"
)

var (
	pod    = packettest.Addr("10.1.0.2")
	remote = packettest.Addr("198.51.100.7")
	router = packettest.Addr("10.1.0.1")
	wire   = packettest.Eth{Dst: packet.MAC{2, 0, 0, 0, 0, 1}, Src: packet.MAC{2, 0, 0, 0, 0, 2}}
)

func udpTo(dst uint32, size int) []packettest.Layer {
	return []packettest.Layer{wire, packettest.IPv4{Src: pod, Dst: dst, Proto: packet.ProtoUDP, TTL: 5, ID: 99}, packettest.UDP{Src: 40000, Dst: 9000}, packettest.Bytes(size)}
}

func parsed(t testing.TB, layers ...packettest.Layer) *packet.Packet {
	t.Helper()
	p := packettest.InChunk(packettest.Frame(layers...))
	if r := packet.Parse(p); r != packet.NoReason {
		t.Fatal(r)
	}
	return p
}

func TestBuildIsWhatTheSenderUnderstands(t *testing.T) {
	for name, c := range map[string]struct {
		e          Error
		icmp, code uint8
		mtu        uint16
	}{
		"time exceeded": {TimeExceeded, 11, 0, 0},
		"net":           {NetUnreachable, 3, 0, 0},
		"host":          {HostUnreachable, 3, 1, 0},
		"prohibited":    {AdminProhibited, 3, 13, 0},
		"frag needed":   {FragNeeded(1450), 3, 4, 1450},
	} {
		for _, size := range []int{0, 1, 520, 521, 1472} {
			p := parsed(t, udpTo(remote, size)...)
			received := append([]byte{}, p.IPv4()...)
			dst := make([]byte, 2000)
			n := Build(dst, c.e, router, p)
			if want := min(576, 28+28+size); n != want {
				t.Errorf("%s about %d bytes: %d bytes long, want %d", name, size, n, want)
			}
			packettest.VerifyIPv4(t, dst[:n],
				packettest.Between(router, pod), packettest.TTL(64), packettest.TOS(0xc0),
				packettest.ICMPIs(c.icmp, c.code, c.mtu), packettest.Quotes(received[:min(548, len(received))]))
		}
	}
}

func TestBuildQuotesTheHeaderAsItCame(t *testing.T) {
	p := parsed(t, udpTo(remote, 10)...)
	received := append([]byte{}, p.IPv4()...)
	p.IPv4().DecrementTTL()
	dst := make([]byte, MaxLen)
	n := Build(dst, TimeExceeded, router, p)
	packettest.VerifyIPv4(t, dst[:n], packettest.Quotes(received))
}

func TestBuildIntoAShortBuffer(t *testing.T) {
	p := parsed(t, udpTo(remote, 100)...)
	for room := range 200 {
		n := Build(make([]byte, room), TimeExceeded, router, p)
		if want := min(room, 28+28+100); room >= 28+28 && n != want || room < 28+28 && n != 0 {
			t.Errorf("%d bytes of room: wrote %d", room, n)
		}
	}
}

func TestBuildNumbersItsErrors(t *testing.T) {
	p, dst := parsed(t, udpTo(remote, 100)...), make([]byte, MaxLen)
	seen := map[uint16]bool{}
	for range 1000 {
		Build(dst, TimeExceeded, router, p)
		seen[packet.IPv4(dst).ID()] = true
	}
	if len(seen) != 1000 {
		t.Errorf("1000 errors have %d IDs", len(seen))
	}
}

func TestMayAnswer(t *testing.T) {
	udp := func(change func(*packettest.Eth, *packettest.IPv4)) []packettest.Layer {
		e, h := wire, packettest.IPv4{Src: pod, Dst: remote, Proto: packet.ProtoUDP}
		change(&e, &h)
		return []packettest.Layer{e, h, packettest.UDP{Src: 1, Dst: 2}}
	}
	from := func(a string) []packettest.Layer {
		return udp(func(_ *packettest.Eth, h *packettest.IPv4) { h.Src = packettest.Addr(a) })
	}
	to := func(a string) []packettest.Layer {
		return udp(func(_ *packettest.Eth, h *packettest.IPv4) { h.Dst = packettest.Addr(a) })
	}
	icmp := func(t uint8) []packettest.Layer {
		return []packettest.Layer{wire, packettest.IPv4{Src: pod, Dst: remote, Proto: packet.ProtoICMP}, packettest.ICMP{Type: t}, packettest.Bytes(28)}
	}
	for name, c := range map[string]struct {
		layers []packettest.Layer
		want   bool
	}{
		"UDP":                     {udpTo(remote, 10), true},
		"first fragment":          {udp(func(_ *packettest.Eth, h *packettest.IPv4) { h.MoreFollow = true }), true},
		"later fragment":          {udp(func(_ *packettest.Eth, h *packettest.IPv4) { h.Offset = 8 }), false},
		"to a group MAC":          {udp(func(e *packettest.Eth, _ *packettest.IPv4) { e.Dst = packet.Broadcast }), false},
		"to multicast":            {to("224.0.0.1"), false},
		"to broadcast":            {to("255.255.255.255"), false},
		"from 0/8":                {from("0.0.0.0"), false},
		"from loopback":           {from("127.0.0.1"), false},
		"from multicast":          {from("224.0.0.9"), false},
		"from 240/4":              {from("240.0.0.1"), false},
		"from broadcast":          {from("255.255.255.255"), false},
		"echo":                    {icmp(8), true},
		"echo reply":              {icmp(0), true},
		"timestamp":               {icmp(13), true},
		"extended echo":           {icmp(42), true},
		"destination unreachable": {icmp(3), false},
		"source quench":           {icmp(4), false},
		"redirect":                {icmp(5), false},
		"time exceeded":           {icmp(11), false},
		"parameter problem":       {icmp(12), false},
		"ICMP of an unknown type": {icmp(200), false},
		"ARP":                     {[]packettest.Layer{packettest.Eth{Type: packet.EtherTypeARP}, packettest.ARP{}}, false},
		"fragment of ICMP":        {[]packettest.Layer{wire, packettest.IPv4{Src: pod, Dst: remote, Proto: 1, Offset: 8}, packettest.Bytes(8)}, false},
		"another protocol":        {[]packettest.Layer{wire, packettest.IPv4{Src: pod, Dst: remote, Proto: packet.ProtoESP}}, true},
	} {
		if got := MayAnswer(parsed(t, c.layers...)); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
	if MayAnswer(&packet.Packet{}) {
		t.Error("answers a packet that is not parsed")
	}
	if p := parsed(t, udpTo(remote, 0)...); !MayAnswer(p) {
		t.Error("does not answer UDP")
	} else {
		n := Build(p.Buf[1000:], TimeExceeded, router, p)
		if MayAnswer(parsed(t, wire, packettest.Payload(p.Buf[1000:1000+n]))) {
			t.Error("answers our own error")
		}
	}
}

func TestBuildWritesWhatParseQuotedReads(t *testing.T) {
	about := parsed(t, udpTo(remote, 1000)...)
	dst := make([]byte, MaxLen)
	n := Build(dst, FragNeeded(1400), router, about)
	q, ok := packet.ParseQuoted(parsed(t, wire, packettest.Payload(dst[:n])))
	if !ok || (Error{q.Type, q.Code, q.MTU}) != FragNeeded(1400) {
		t.Fatalf("%v %+v", ok, q)
	}
	if q.Src != pod || q.Dst != remote || q.Proto != packet.ProtoUDP || !q.HasPorts || q.SrcPort != 40000 || q.DstPort != 9000 {
		t.Errorf("%+v", q)
	}
	if q.TotalLen != 1028 || len(q.Data) != 548-20 {
		t.Errorf("total length %d, %d bytes of data", q.TotalLen, len(q.Data))
	}
}

// What ParseQuoted takes for an error must not be answered with one.
func TestMayAnswerNoError(t *testing.T) {
	quote := packettest.Payload(packettest.Frame(udpTo(remote, 10)[1:]...))
	for icmpType := range 256 {
		p := parsed(t, wire, packettest.IPv4{Src: router, Dst: pod, Proto: packet.ProtoICMP}, packettest.ICMP{Type: uint8(icmpType)}, quote)
		if _, isError := packet.ParseQuoted(p); isError && MayAnswer(p) {
			t.Errorf("would answer ICMP type %d", icmpType)
		}
	}
}

const second = int64(time.Second)

func TestLimiterPerSource(t *testing.T) {
	var l Limiter
	now, sent := 1000*second, 0
	for range 100 {
		if l.Allow(pod, now) {
			sent++
		}
	}
	if sent != 10 {
		t.Errorf("a burst of %d, want 10", sent)
	}
	for range 10_000 { // ten seconds of a packet each millisecond
		now += second / 1000
		if l.Allow(pod, now) {
			sent++
		}
	}
	if sent != 10+100 {
		t.Errorf("%d in ten seconds and a burst, want 110", sent)
	}
	if !l.Allow(remote, now) {
		t.Error("another source is refused")
	}
	now += 100 * second
	for i := range 11 {
		if got := l.Allow(pod, now); got != (i < 10) {
			t.Errorf("after a rest, error %d: %v", i, got)
		}
	}
}

func TestLimiterForAll(t *testing.T) {
	var l Limiter
	now, sent := 1000*second, 0
	for i := range 10_000 {
		if l.Allow(uint32(i+1)<<8, now) {
			sent++
		}
	}
	if sent != 100 {
		t.Errorf("a burst of %d to all, want 100", sent)
	}
	for i := range 100_000 { // one second of many sources
		if l.Allow(uint32(i)*2654435761, now+int64(i)*second/100_000) {
			sent++
		}
	}
	if sent < 1090 || sent > 1100 {
		t.Errorf("%d in a second and a burst, want 1100", sent)
	}
}

// A flood of distinct sources must not win a source more than its share, beyond
// what it gets when its bucket is forgotten.
func TestLimiterRemembersAFloodingSource(t *testing.T) {
	var l Limiter
	now, sent := 1000*second, 0
	for i := range 200_000 { // two seconds; every other packet is the flooder's
		now += second / 100_000
		if i%2 == 0 {
			l.Allow(uint32(i)*2654435761, now)
			continue
		}
		if l.Allow(pod, now) {
			sent++
		}
	}
	if sent > 10+20+1 {
		t.Errorf("the flooder got %d errors in two seconds", sent)
	}
}

func TestFragNeededReachesEveryFlow(t *testing.T) {
	var l Limiter
	now := 1000 * second
	for range 1000 { // the source has used up all that it gets for other errors
		l.Allow(pod, now)
	}
	for flow := range uint32(90) {
		if !l.AllowFragNeeded(pod, flow*2654435761, now) {
			t.Fatalf("flow %d is never told the MTU", flow)
		}
	}
	told := 0
	for range 1000 {
		if l.AllowFragNeeded(pod, 7, now) {
			told++
		}
	}
	if told != 2 {
		t.Errorf("one flow is told %d times at once, want 2", told)
	}
	if !l.AllowFragNeeded(pod, 7, now+second) {
		t.Error("a flow is not told again after a second")
	}
}

func TestNothingAllocates(t *testing.T) {
	var l Limiter
	p, dst := parsed(t, udpTo(remote, 1000)...), make([]byte, MaxLen)
	now := second
	for name, f := range map[string]func(){
		"Build":     func() { Build(dst, TimeExceeded, router, p) },
		"MayAnswer": func() { MayAnswer(p) },
		"Allow":     func() { now++; l.Allow(uint32(now), now); l.AllowFragNeeded(pod, uint32(now), now) },
	} {
		if n := testing.AllocsPerRun(100, f); n != 0 {
			t.Errorf("%s allocates %v times", name, n)
		}
	}
}

func BenchmarkBuildTimeExceededAboutFullFrame(b *testing.B) {
	p, dst := parsed(b, udpTo(remote, 1472)...), make([]byte, MaxLen)
	n := 0
	b.ReportAllocs()
	for b.Loop() {
		n = Build(dst, TimeExceeded, router, p)
	}
	packettest.VerifyIPv4(b, dst[:n], packettest.ICMPIs(11, 0, 0))
}

func BenchmarkAllowUnderAFloodOfSources(b *testing.B) {
	var l Limiter
	i, sent := 0, 0
	for b.Loop() {
		i++
		if l.Allow(uint32(i)*2654435761, second+int64(i)*100) {
			sent++
		}
	}
	if sent == 0 || sent > 100+i/10_000+1 {
		b.Fatalf("%d of %d allowed", sent, i)
	}
}
