package dataplane

import (
	"sync/atomic"
	"time"
)

// What is learned of a path is soft state (RFC 1191 6.3): after ten minutes a
// larger packet may be tried again.
const pathMTULifetime = 10 * time.Minute

// minPathMTU is the smallest MTU that we believe. RFC 791 demands that every
// link carries 68 bytes, but an inner packet must fit too; what claims less than
// 576 (RFC 1122 3.3.3) is taken as 576, so that a forged error cannot make the
// tunnel useless.
const minPathMTU = 576

// PathMTU is what ICMP errors told about the way to one VTEP. Any worker may
// learn, every worker reads; the snapshots that come after share the cell.
type PathMTU struct {
	mtu     atomic.Uint32 // longest outer IPv4 datagram; 0: nothing learned
	expires atomic.Int64  // monotonic nanoseconds
}

// Limit is the smaller of linkMTU and what was learned.
func (m *PathMTU) Limit(linkMTU int, now int64) int {
	learned := int(m.mtu.Load())
	if learned == 0 || learned >= linkMTU || now >= m.expires.Load() {
		return linkMTU
	}
	return learned
}

// Learn takes the next-hop MTU of a fragmentation-needed error (RFC 1191 4).
// Routers older than that RFC say 0; those below 68 are nonsense. Both are
// ignored (RFC 8201 4 says the same of too small values).
func (m *PathMTU) Learn(mtu uint16, now int64) bool {
	if mtu < 68 {
		return false
	}
	m.mtu.Store(uint32(max(mtu, minPathMTU)))
	m.expires.Store(now + int64(pathMTULifetime))
	return true
}

// Learned returns what is known now and for how long; 0 if nothing is.
func (m *PathMTU) Learned(now int64) (mtu int, left time.Duration) {
	left = time.Duration(m.expires.Load() - now)
	if left <= 0 {
		return 0, 0
	}
	return int(m.mtu.Load()), left
}
