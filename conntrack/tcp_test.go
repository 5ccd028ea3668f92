package conntrack

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"ringway/packet"
)

// A script plays packets of one connection and says what each leads to, in the
// manner of packetdrill:
//
//	+2.5                                   time passes, in seconds
//	> S 0:0 win 65535 scale 8 = SYN_SENT   from the side that began; no answer yet
//	< S. 0:0 ack 1 = SYN_RECV 240          240 s are left
//	> . 1:1 ack 1 = ESTABLISHED Assured    an event
//
// "-" for the state: there is no flow.
type script struct {
	t     *testing.T
	table *Table
	new   New
	now   int64
}

func play(t *testing.T, n New, text string) {
	t.Helper()
	s := &script{t: t, table: open(t, Options{}), new: n, now: start}
	for i, line := range strings.Split(strings.TrimSpace(text), "\n") {
		if comment := strings.Index(line, "#"); comment >= 0 {
			line = line[:comment]
		}
		if fields := strings.Fields(line); len(fields) > 0 {
			if err := s.step(fields); err != nil {
				t.Fatalf("line %d: %s: %v", i+1, strings.TrimSpace(line), err)
			}
			checkTable(t, s.table)
		}
	}
}

func (s *script) step(fields []string) error {
	if after, ok := strings.CutPrefix(fields[0], "+"); ok {
		seconds, err := strconv.ParseFloat(after, 64)
		s.now += int64(seconds * 1e9)
		s.table.Tick(s.now, 1000)
		if len(fields) == 3 {
			return s.expect(fields[2:], 0)
		}
		return err
	}
	r := s.table.Lookup(s.new.Original, s.now)
	if fields[0] == "<" {
		r = s.table.Lookup(s.new.Reply, s.now)
	}
	if r == 0 && fields[0] == ">" {
		r = create(s.t, s.table, s.new, s.now).Ref(Original)
	}
	p, rest, err := parsePacket(fields[1:])
	if err != nil {
		return err
	}
	var event Event
	if r != 0 {
		event = s.table.Update(r, p, s.now)
	}
	return s.expect(rest, event)
}

// parsePacket gives what follows the packet, too.
func parsePacket(fields []string) (*packet.Packet, []string, error) {
	var flags uint8
	for _, c := range fields[0] {
		flag, ok := map[rune]uint8{'S': packet.TCPSyn, '.': packet.TCPAck, 'F': packet.TCPFin, 'R': packet.TCPRst, 'P': packet.TCPPsh, '0': 0}[c]
		if !ok {
			return nil, nil, fmt.Errorf("flag %c", c)
		}
		flags |= flag
	}
	var seq, end, ack uint32
	window, scale := 65535, -1
	if _, err := fmt.Sscanf(fields[1], "%d:%d", &seq, &end); err != nil {
		return nil, nil, err
	}
	fields = fields[2:]
	for len(fields) > 1 && fields[0] != "=" {
		v, err := strconv.ParseUint(fields[1], 10, 32)
		if err != nil {
			return nil, nil, err
		}
		switch fields[0] {
		case "ack":
			ack = uint32(v)
		case "win":
			window = int(v)
		case "scale":
			scale = int(v)
		default:
			return nil, nil, fmt.Errorf("what is %s", fields[0])
		}
		fields = fields[2:]
	}
	return tcpPacket(flags, seq, ack, uint16(window), scale, int(end-seq)), fields[1:], nil
}

// expect a state, seconds left, events.
func (s *script) expect(want []string, event Event) error {
	r := s.table.Lookup(s.new.Original, s.now)
	if r == 0 {
		if want[0] != "-" {
			return fmt.Errorf("there is no flow")
		}
		return nil
	}
	state := s.table.Flow(r.ID()).State().String()
	if state != want[0] {
		return fmt.Errorf("state %s", state)
	}
	var events Event
	for _, word := range want[1:] {
		e, ok := map[string]Event{"Assured": Assured, "Closed": Closed, "Reopened": Reopened, "Reversed": Reversed}[word]
		events |= e
		if ok {
			continue
		}
		seconds, err := strconv.ParseFloat(word, 64)
		if err != nil {
			return err
		}
		if got := left(s.table, r.ID(), s.now); got != time.Duration(seconds*1e9) {
			return fmt.Errorf("%v left", got)
		}
	}
	if events != event {
		return fmt.Errorf("events %b, not %b", event, events)
	}
	return nil
}

var connection = tupleOf(packet.ProtoTCP, 1)

// established is a connection with window scales 8 and 7, at 1 on both sides.
const established = `
	> S 0:0 win 65535 scale 8 = SYN_SENT 240
	< S. 0:0 ack 1 win 65535 scale 7 = SYN_RECV 240
	> . 1:1 ack 1 win 256 = ESTABLISHED 7440 Assured
`

func TestTCP(t *testing.T) {
	for _, c := range []struct{ name, script string }{
		{"handshake, data, and the side that began closes", established + `
			+10
			> P. 1:101 ack 1 win 256 = ESTABLISHED 7440
			+10
			< . 1:1 ack 101 win 512 = ESTABLISHED 7440
			> F. 101:101 ack 1 win 256 = FIN_WAIT 240
			< . 1:1 ack 102 win 512 = CLOSE_WAIT 240
			+200
			< P. 1:1001 ack 102 win 512 = CLOSE_WAIT 240
			> . 102:102 ack 1001 win 256 = CLOSE_WAIT 240
			< F. 1001:1001 ack 102 win 512 = TIME_WAIT 240 Closed
			> . 102:102 ack 1002 win 256 = TIME_WAIT 240
			+240 = -
		`},
		{"the other side closes", established + `
			< F. 1:1 ack 1 win 512 = FIN_WAIT 240
			> . 1:1 ack 2 win 256 = CLOSE_WAIT 240
			> F. 1:1 ack 2 win 256 = TIME_WAIT 240 Closed
			< . 2:2 ack 2 win 512 = TIME_WAIT 240
		`},
		{"FIN and ACK of the other FIN in one", established + `
			> F. 1:1 ack 1 win 256 = FIN_WAIT
			< F. 1:1 ack 2 win 512 = TIME_WAIT Closed
			> . 2:2 ack 2 win 256 = TIME_WAIT
		`},
		{"simultaneous close", established + `
			> F. 1:1 ack 1 win 256 = FIN_WAIT
			< F. 1:1 ack 1 win 512 = TIME_WAIT Closed
			> . 2:2 ack 2 win 256 = TIME_WAIT
			< . 2:2 ack 2 win 512 = TIME_WAIT
		`},
		{"a FIN that is sent again", established + `
			> F. 1:1 ack 1 win 256 = FIN_WAIT
			> F. 1:1 ack 1 win 256 = FIN_WAIT
			< . 1:1 ack 2 win 512 = CLOSE_WAIT
			> F. 1:1 ack 1 win 256 = CLOSE_WAIT
			< F. 1:1 ack 2 win 512 = TIME_WAIT Closed
			< F. 1:1 ack 2 win 512 = TIME_WAIT
		`},
		{"an ACK of data only is not one of the FIN", established + `
			> P. 1:101 ack 1 win 256 = ESTABLISHED
			> F. 101:101 ack 1 win 256 = FIN_WAIT
			< . 1:1 ack 101 win 512 = FIN_WAIT
			< . 1:1 ack 102 win 512 = CLOSE_WAIT
		`},
		{"a FIN with data", established + `
			> FP. 1:101 ack 1 win 256 = FIN_WAIT
			< . 1:1 ack 102 win 512 = CLOSE_WAIT
		`},
		{"a forged FIN out of window changes nothing", established + `
			+100
			< F. 4000000000:4000000000 ack 1 win 512 = ESTABLISHED 7440
		`},
		{"simultaneous open", `
			> S 100:100 win 1000 = SYN_SENT
			< S 900:900 win 1000 = SYN_SENT2
			> S. 100:100 ack 901 win 1000 = SYN_RECV
			< S. 900:900 ack 101 win 1000 = ESTABLISHED Assured
			> P. 101:201 ack 901 win 1000 = ESTABLISHED 7440
		`},
		{"simultaneous open, SYNs sent again, the other SYN+ACK first", `
			> S 100:100 win 1000 = SYN_SENT
			> S 100:100 win 1000 = SYN_SENT
			< S 900:900 win 1000 = SYN_SENT2
			< S 900:900 win 1000 = SYN_SENT2
			> S 100:100 win 1000 = SYN_SENT2
			< S. 900:900 ack 101 win 1000 = SYN_RECV
			< S. 900:900 ack 101 win 1000 = SYN_RECV
			> S. 100:100 ack 901 win 1000 = ESTABLISHED Assured
		`},
		{"simultaneous open that ends in plain ACKs", `
			> S 100:100 win 1000 = SYN_SENT
			< S 900:900 win 1000 = SYN_SENT2
			> . 101:101 ack 901 win 1000 = SYN_RECV
			< . 901:901 ack 101 win 1000 = ESTABLISHED Assured
		`},
		{"SYN and SYN+ACK are sent again", `
			> S 0:0 = SYN_SENT 240
			+3
			> S 0:0 = SYN_SENT 240
			< S. 0:0 ack 1 = SYN_RECV 240
			+3
			< S. 0:0 ack 1 = SYN_RECV 240
			+1
			> S 0:0 = SYN_RECV 240
			> . 1:1 ack 1 = ESTABLISHED 7440 Assured
			< S. 0:0 ack 1 = ESTABLISHED
		`},
		{"a client that tries again with another sequence number", `
			> S 0:0 = SYN_SENT
			> S 5000000:5000000 = SYN_SENT
			< S. 0:0 ack 5000001 = SYN_RECV
			> . 5000001:5000001 ack 1 = ESTABLISHED Assured
		`},
		{"SYN_RECV, and the client has forgotten", `
			> S 0:0 = SYN_SENT
			< S. 0:0 ack 1 = SYN_RECV
			> S 70000000:70000000 = SYN_RECV
			< . 1:1 ack 1 = SYN_RECV         # challenge ACK
			> R 1:1 = RESET
			> S 70000000:70000000 = SYN_SENT 240 Reopened
			< S. 9:9 ack 70000001 = SYN_RECV
			> . 70000001:70000001 ack 10 = ESTABLISHED Assured
		`},
		{"fast open: data behind the SYN", `
			> S 0:1000 = SYN_SENT
			< S. 0:0 ack 1001 = SYN_RECV
			< P. 1:501 ack 1001 = SYN_RECV
			> . 1001:1001 ack 501 = ESTABLISHED Assured
		`},
		{"data rides on the handshake's last ACK, then FIN", `
			> S 0:0 = SYN_SENT
			< S. 0:0 ack 1 = SYN_RECV
			> FP. 1:101 ack 1 = FIN_WAIT 240 Assured
			< F. 1:1 ack 102 = TIME_WAIT Closed
		`},
		{"the port is closed", `
			> S 0:0 = SYN_SENT
			+1
			< R. 0:0 ack 1 = RESET 239    # a RST gives no more time
			+100
			< R. 0:0 ack 1 = RESET 139
			> S 4000000000:4000000000 = SYN_SENT 240 Reopened
		`},
		{"a RST that answers no SYN of ours", `
			> S 1000:1000 = SYN_SENT
			< R. 0:0 ack 9000000 = SYN_SENT
			< R 1001:1001 = SYN_SENT
		`},
		{"RST, silence, data: the flow is back", established + `
			+60
			< R 1:1 win 0 = RESET 240
			+230
			> P. 1:101 ack 1 win 256 = ESTABLISHED 7440
		`},
		{"RST, silence: the flow has 4 minutes", established + `
			+60
			> R. 1:1 ack 1 win 0 = RESET 240
			+239.9 = RESET
			+0.1 = -
		`},
		{"a RST never lengthens a life", established + `
			+7300
			> R. 1:1 ack 1 win 0 = RESET 140
		`},
		{"RST after a FIN, then data: the FIN is remembered", established + `
			> F. 1:1 ack 1 win 256 = FIN_WAIT
			< R 1:1 win 0 = RESET
			< P. 1:101 ack 1 win 512 = FIN_WAIT 240
			< F. 101:101 ack 2 win 512 = TIME_WAIT Closed
		`},
		{"RST in TIME_WAIT changes nothing", established + `
			> F. 1:1 ack 1 win 256 = FIN_WAIT
			< F. 1:1 ack 2 win 512 = TIME_WAIT Closed
			+10
			> R 2:2 win 0 = TIME_WAIT 230
		`},
		{"window scales bound what a RST may be", established + `
			> . 1:1 ack 1 win 128 = ESTABLISHED 7440
			< R 65538:65538 win 0 = ESTABLISHED # beyond 256<<8, the most that was offered
			< R 65537:65537 win 0 = RESET
		`},
		{"a SYN+ACK that is sent again scales the windows once", `
			> S 0:0 win 65535 scale 8 = SYN_SENT
			< S. 0:0 ack 1 win 65535 scale 7 = SYN_RECV
			< S. 0:0 ack 1 win 65535 scale 7 = SYN_RECV
			< R 65538:65538 win 0 = SYN_RECV
			< R 65537:65537 win 0 = RESET
		`},
		{"SYN in TIME_WAIT with any sequence number", established + `
			> F. 1:1 ack 1 win 256 = FIN_WAIT
			< F. 1:1 ack 2 win 512 = TIME_WAIT Closed
			+1
			> S 0:0 win 65535 = SYN_SENT 240 Reopened
			< S. 7:7 ack 1 = SYN_RECV
			> . 1:1 ack 8 = ESTABLISHED 7440 Assured
			> F. 1:1 ack 8 = FIN_WAIT
			< F. 8:8 ack 2 = TIME_WAIT Closed
			< S 0:0 = SYN_SENT Reopened Reversed  # from the other side
			> S. 5:5 ack 1 = SYN_RECV
			< . 1:1 ack 6 = ESTABLISHED Assured
		`},
		{"half-open: the other side has forgotten and accepts the SYN", established + `
			+60
			> S 777:777 win 65535 = ESTABLISHED 7380
			< S. 5000:5000 ack 778 = SYN_RECV 240 Reopened
			> . 778:778 ack 5001 = ESTABLISHED 7440 Assured
		`},
		{"half-open in CLOSE_WAIT", established + `
			< F. 1:1 ack 1 win 512 = FIN_WAIT
			> . 1:1 ack 2 win 256 = CLOSE_WAIT
			< S 777:777 win 65535 = CLOSE_WAIT Reversed
			> S. 5000:5000 ack 778 = SYN_RECV Reopened
			< . 778:778 ack 5001 = ESTABLISHED Assured
		`},
		{"half-open: a SYN+ACK that acknowledges something else", established + `
			+60
			> S 777:777 win 65535 = ESTABLISHED 7380
			< S. 5000:5000 ack 779 = ESTABLISHED 7380
			> S. 5000:5000 ack 778 = ESTABLISHED 7380
			< . 1:1 ack 1 win 512 = ESTABLISHED 7440
		`},
		{"mid-stream: established once both sides were seen", `
			> P. 1000:1100 ack 500 win 100 = MID_STREAM 240
			> P. 1100:1200 ack 500 win 100 = MID_STREAM 240
			< . 500:500 ack 1200 win 100 = ESTABLISHED 7440 Assured
			< R 900000:900000 win 0 = RESET 240    # windows may be scaled: liberal
		`},
		{"mid-stream: SYN+ACK is the first packet seen", `
			> S. 0:0 ack 1 = MID_STREAM 240
			< . 1:1 ack 1 = ESTABLISHED Assured
		`},
		{"mid-stream: a new connection takes over", `
			> P. 1000:1100 ack 500 win 100 = MID_STREAM 240
			> S 0:0 = SYN_SENT 240
			< S. 0:0 ack 1 = SYN_RECV
			> . 1:1 ack 1 = ESTABLISHED Assured
		`},
		{"mid-stream: RSTs", `
			> P. 1000:1100 ack 500 win 100 = MID_STREAM
			> R. 1100:1100 ack 500 win 0 = RESET
			> P. 1000:1100 ack 500 win 100 = RESET  # never assured: data does not bring it back
		`},
		{"mid-stream: both FINs", `
			> F. 1000:1000 ack 500 win 100 = MID_STREAM
			< F. 500:500 ack 1001 win 100 = TIME_WAIT Assured Closed
		`},
		{"mid-stream: a FIN, then the other side goes on", `
			> F. 1000:1000 ack 500 win 100 = MID_STREAM
			< P. 500:600 ack 1001 win 100 = CLOSE_WAIT 240 Assured
		`},
		{"the answers take another way", `
			> S 0:0 = SYN_SENT
			+100
			> . 1:1 ack 1 = SYN_SENT 240
			+100
			> P. 1:101 ack 1 = SYN_SENT 240
		`},
		{"nonsense changes nothing", established + `
			+60
			> SF 1:1 win 0 = ESTABLISHED 7380
			> SF. 1:1 ack 1 win 0 = ESTABLISHED 7380
			> 0 1:1 win 0 = ESTABLISHED 7380
			> F 1:1 win 0 = ESTABLISHED 7380      # without ACK
			> SR 99999999:99999999 win 0 = ESTABLISHED 7380
		`},
		{"sequence numbers wrap", `
			> S 4294967295:4294967295 win 65535 scale 8 = SYN_SENT
			< S. 4294967295:4294967295 ack 0 win 65535 scale 7 = SYN_RECV
			> . 0:0 ack 0 win 256 = ESTABLISHED Assured
			> R 4294967295:4294967295 win 0 = ESTABLISHED
			> F. 0:0 ack 0 win 256 = FIN_WAIT
			< . 0:0 ack 1 win 256 = CLOSE_WAIT
		`},
	} {
		t.Run(c.name, func(t *testing.T) { play(t, plain(connection), c.script) })
	}
}

// Behind NAT nobody outside may keep a closed flow, or make it a new one.
func TestTCPFromOutside(t *testing.T) {
	for _, c := range []struct{ name, script string }{
		{"in TIME_WAIT", established + `
			> F. 1:1 ack 1 win 256 = FIN_WAIT
			< F. 1:1 ack 2 win 512 = TIME_WAIT Closed
			+100
			< . 2:2 ack 2 win 512 = TIME_WAIT 140
			< S 0:0 = TIME_WAIT 140
			> . 2:2 ack 2 win 256 = TIME_WAIT 240
		`},
		{"after a RST", established + `
			< R 1:1 win 0 = RESET 240
			+100
			< P. 1:101 ack 1 win 512 = RESET 140
			< S 0:0 = RESET 140
			> P. 1:101 ack 1 win 256 = ESTABLISHED 7440
		`},
		{"while it is open both sides keep it", established + `
			+100
			< P. 1:101 ack 1 win 512 = ESTABLISHED 7440
		`},
	} {
		t.Run(c.name, func(t *testing.T) { play(t, translated(connection), c.script) })
	}
}

// The six situations that netfilter's own selftests hold
// (tools/testing/selftests/net/netfilter/packetdrill). Where netfilter marks a
// packet INVALID and a rule drops it, here it passes and changes nothing.
func TestNetfilterSituations(t *testing.T) {
	for _, c := range []struct{ name, script string }{
		{"ack_loss_stall: what was acknowledged is sent again", `
			> S 0:0 win 32792 = SYN_SENT
			< S. 0:0 ack 1 win 65535 = SYN_RECV
			> . 1:1 ack 1 win 65535 = ESTABLISHED Assured
			> P. 1:1461 ack 1 win 257 = ESTABLISHED
			< . 1:1 ack 1461 win 65535 = ESTABLISHED
			> P. 1461:2921 ack 1 win 257 = ESTABLISHED
			< . 1:1 ack 67161 win 65535 = ESTABLISHED
			+5
			> P. 1:1461 ack 1 win 257 = ESTABLISHED 7440
			< . 1:1 ack 67161 win 65535 = ESTABLISHED 7440
		`},
		{"inexact_rst: a RST after the FIN, then one that is not exact", `
			> S 0:0 win 65535 scale 8 = SYN_SENT
			< S. 1:1 ack 1 win 65535 = SYN_RECV
			> . 1:1 ack 1 win 65535 = SYN_RECV     # not yet of sequence number 1
			> . 1:1 ack 2 win 65535 = ESTABLISHED Assured
			< . 2:1002 ack 1 win 65535 = ESTABLISHED
			> . 1:1 ack 3002 win 65535 = ESTABLISHED
			> P. 1:1001 ack 3002 win 65535 = ESTABLISHED
			< F. 3002:3002 ack 1001 win 65535 = FIN_WAIT 240
			> . 1001:1001 ack 3003 win 65535 = CLOSE_WAIT 240
			+1
			> R. 1001:1001 ack 3003 win 65535 = RESET 239
			+1
			< R 2001:2001 win 0 = RESET 238
		`},
		{"rst_invalid: only a RST in the window counts", `
			> S 0:0 win 65535 scale 8 = SYN_SENT
			< S. 0:0 ack 1 win 65535 = SYN_RECV
			> . 1:1 ack 1 win 65535 = ESTABLISHED Assured
			< . 1:1001 ack 1 win 65535 = ESTABLISHED
			> . 1:1 ack 3001 win 65535 = ESTABLISHED
			< R 0:0 win 0 = ESTABLISHED 7440
			< R 1000000:1000000 win 0 = ESTABLISHED 7440
			< R 42:42 win 0 = ESTABLISHED 7440
			> P. 1:1001 ack 3001 win 65535 = ESTABLISHED
			< . 3001:3001 ack 1001 win 65535 = ESTABLISHED
			< R. 3000:3000 ack 1001 win 0 = ESTABLISHED 7440
			< R. 3001:3001 ack 1001 win 0 = RESET 240
		`},
		{"syn_challenge_ack: the peer still has an old incarnation", `
			> S 0:0 win 65535 scale 8 = SYN_SENT
			< . 145824453:145824453 ack 643160523 win 240 = SYN_SENT
			> R 643160523:643160523 win 0 = SYN_SENT
			> S 0:0 win 65535 scale 8 = SYN_SENT 240
			< S. 0:0 ack 1 win 250 scale 0 = SYN_RECV
			> . 1:1 ack 1 win 256 = ESTABLISHED Assured
		`},
		{"synack_old: a SYN+ACK of an old incarnation", `
			> S 0:0 win 65535 scale 8 = SYN_SENT
			< S. 145824453:145824453 ack 643160523 win 240 scale 0 = SYN_SENT
			+1
			> S 0:0 win 65535 scale 8 = SYN_SENT 240
			< S. 145758918:145758918 ack 1 win 250 scale 0 = SYN_RECV
			> P. 1:2 ack 145758919 win 256 = ESTABLISHED Assured
		`},
		{"synack_reuse: a SYN on an established connection", `
			> S 0:0 win 32792 scale 7 = SYN_SENT
			< S. 0:0 ack 1 win 65535 scale 8 = SYN_RECV
			> . 1:1 ack 1 win 257 = ESTABLISHED Assured
			> P. 1:101 ack 1 win 257 = ESTABLISHED
			< . 1:1 ack 101 win 256 = ESTABLISHED
			+1
			> S 2000:2000 win 32792 scale 7 = ESTABLISHED 7439
			< . 1:1 ack 101 win 256 = ESTABLISHED 7440
			> R. 101:101 ack 1 win 257 = RESET 240
			+1.5
			> S 2000:2000 win 32792 scale 0 = SYN_SENT 240 Reopened
			< S. 0:0 ack 2001 win 65535 = SYN_RECV 240
		`},
	} {
		t.Run(c.name, func(t *testing.T) { play(t, plain(connection), c.script) })
	}
}

func TestWindowScaleOption(t *testing.T) {
	for _, c := range []struct {
		name    string
		options []byte
		want    uint8
	}{
		{"none", nil, scaleUnknown},
		{"alone", []byte{3, 3, 7, 0}, 7},
		{"behind others", []byte{2, 4, 5, 180, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 9}, 9},
		{"too large", []byte{3, 3, 200, 0}, scaleMost},
		{"behind the end", []byte{0, 3, 3, 7}, scaleUnknown},
		{"cut off", []byte{1, 1, 1, 3}, scaleUnknown},
		{"length of nothing", []byte{3, 0, 7, 0}, scaleUnknown},
		{"length too long", []byte{1, 3, 5, 7}, scaleUnknown},
		{"wrong length", []byte{3, 2, 7, 0}, scaleUnknown},
	} {
		h := packet.TCP(append(make([]byte, packet.TCPMinLen), c.options...))
		h.SetDataOffset(len(h))
		if got := windowScale(h); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
	h := packet.TCP(append(make([]byte, packet.TCPMinLen), 3, 3, 7, 0))
	h.SetDataOffset(60)
	if windowScale(h) != 7 {
		t.Error("a header that says it is longer than the fragment")
	}
}

// A fragment without the header counts, and nothing else.
func TestTCPFragmentWithoutHeader(t *testing.T) {
	table := open(t, Options{})
	id := create(t, table, plain(connection), start)
	table.Update(id.Ref(Original), tcpPacket(packet.TCPSyn, 0, 0, 0, -1, 0), start)
	p := &packet.Packet{Proto: packet.ProtoTCP, L3: 14, End: 1014, Flags: packet.Fragment | packet.LaterFragment}
	if e := table.Update(id.Ref(Original), p, start+second); e != 0 {
		t.Errorf("event %b", e)
	}
	f := table.Flow(id)
	if f.State() != StateSynSent || f.Packets(Original) != 2 || left(table, id, start) != 240*time.Second {
		t.Errorf("%v, %d packets, %v left", f.State(), f.Packets(Original), left(table, id, start))
	}
}
