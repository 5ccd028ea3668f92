package packet

// MinMTU is the MTU in bytes that every IPv4 link has at least (RFC 791 3.2).
const MinMTU = 68

// Fragmenter cuts one IPv4 datagram into fragments (RFC 791 3.2). It borrows
// the packet's bytes from Init to the last Next and allocates nothing; it can
// be used again.
type Fragmenter struct {
	header  [IPv4MaxLen]byte
	length  int    // of header, in bytes
	payload []byte // what is not sent yet
	offset  int    // of payload in the whole datagram, in bytes
	mtu     int    // in bytes
	last    bool   // the end of payload is the end of the datagram
	done    bool   // all of payload is sent
	options []byte // of the packet, until the first fragment is out
}

// Init prepares to cut a parsed packet into fragments of at most mtu bytes,
// IPv4 header included. It gives NoReason, FragmentationNeeded where DF is set,
// or FragmentFailed where the MTU is below MinMTU or too small for the options.
func (f *Fragmenter) Init(p *Packet, mtu int) Reason {
	f.payload, f.options, f.done = nil, nil, true
	h := p.IPv4()
	if h.DontFragment() {
		return FragmentationNeeded
	}
	f.length = h.HeaderLen()
	if mtu < MinMTU || mtu < f.length+8 {
		return FragmentFailed
	}
	copy(f.header[:], h[:f.length])
	f.payload = h[f.length:]
	f.options = h.Options()
	f.offset = h.FragmentOffset()
	f.last = !h.MoreFragments()
	f.mtu = mtu
	f.done = false
	return NoReason
}

// Next writes the next fragment, an IPv4 datagram with its header, into dst and
// returns its length. It is not ok when there is none left, or when dst is too
// short for a header and eight bytes. A dst shorter than the MTU gives shorter
// fragments.
func (f *Fragmenter) Next(dst []byte) (n int, ok bool) {
	room := min(f.mtu, len(dst)) - f.length
	if f.done || room < 8 {
		return 0, false
	}
	size, more := len(f.payload), !f.last
	if size > room {
		// All but the last carry multiples of eight bytes: the offset
		// counts in those.
		size, more = room&^7, true
	}
	n = f.length + size
	copy(dst, f.header[:f.length])
	copy(dst[f.length:n], f.payload[:size])
	h := IPv4(dst[:n])
	h.SetTotalLen(n)
	h.SetFragment(false, more, f.offset)
	h.UpdateChecksum()
	f.payload = f.payload[size:]
	f.offset += size
	f.done = len(f.payload) == 0
	f.dropUncopiedOptions()
	return n, true
}

// dropUncopiedOptions makes the header that all fragments after the first have:
// it keeps the options whose copied flag is set (RFC 791 3.1).
func (f *Fragmenter) dropUncopiedOptions() {
	if len(f.options) == 0 {
		return
	}
	o := f.options
	f.options = nil
	at := IPv4MinLen
	for len(o) > 0 && o[0] != ipv4OptionEnd {
		if o[0] == ipv4OptionNop {
			o = o[1:]
			continue
		}
		if len(o) < 2 || o[1] < 2 || int(o[1]) > len(o) {
			break
		}
		if o[0]&ipv4OptionCopied != 0 {
			at += copy(f.header[at:], o[:o[1]])
		}
		o = o[o[1]:]
	}
	for at%4 != 0 {
		f.header[at] = ipv4OptionEnd
		at++
	}
	f.length = at
	IPv4(f.header[:]).SetHeaderLen(at)
}
