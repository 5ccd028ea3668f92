package hostports

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// maxRanges bounds the programs that the kernel runs for each of its sockets.
// For more ranges it filters by the one that holds them all, we by the rest.
const maxRanges = 64

// filter is a set of ports in the forms in which it is asked for.
type filter struct {
	ports  Ports
	ranges []Range // of ports, or what holds it
}

func newFilter(ranges []Range) *filter {
	if len(ranges) == 0 {
		ranges = []Range{{0, 1<<16 - 1}}
	}
	f := &filter{ports: portsOf(ranges)}
	f.ranges = f.ports.ranges()
	if n := len(f.ranges); n > maxRanges {
		f.ranges = []Range{{f.ranges[0].First, f.ranges[n-1].Last}}
	}
	return f
}

// Operations of INET_DIAG_REQ_BYTECODE (linux/inet_diag.h). Each is a byte of
// code, a byte that says how far to go on if it holds, and two bytes that say
// how far if not. A port to compare with is the last two bytes of a second
// operation. A socket passes if the program is left exactly at its end.
const (
	opJump      = 1 // "if not" is always taken
	opPortGE    = 2 // INET_DIAG_BC_S_GE
	opPortLE    = 3 // INET_DIAG_BC_S_LE
	opSize      = 4
	opPortSize  = 2 * opSize
	refuse      = opSize // beyond the end
	perRange    = 2*opPortSize + opSize
	perLast     = 2 * opPortSize // it ends where the program does, without a jump
	maxBytecode = (maxRanges-1)*perRange + perLast
)

// bytecode passes sockets whose local port is in one of the ranges. The kernel
// takes no jump but to the beginning of an operation or to the end, and only
// forward (net/ipv4/inet_diag.c, inet_diag_bc_audit).
func (f *filter) bytecode() []byte {
	code := make([]byte, 0, maxBytecode)
	op := func(code []byte, op, yes byte, no int) []byte {
		return binary.NativeEndian.AppendUint16(append(code, op, yes), uint16(no))
	}
	for i, r := range f.ranges {
		rest := (len(f.ranges)-1-i)*perRange - opSize // after this range
		next := perRange                              // from its first operation
		if i == len(f.ranges)-1 {
			rest, next = 0, perLast+refuse
		}
		code = op(code, opPortGE, opPortSize, next)
		code = op(code, 0, 0, int(r.First))
		code = op(code, opPortLE, opPortSize, next-opPortSize)
		code = op(code, 0, 0, int(r.Last))
		if rest > 0 {
			code = op(code, opJump, opSize, opSize+rest)
		}
	}
	return code
}

// portOffset is where a notice of a closed socket has its local port, in
// network byte order: inet_diag_sockid is at byte 4 of inet_diag_msg.
const portOffset = unix.SizeofNlMsghdr + 4

// socketFilter keeps notices of other ports from waking us: a classic BPF
// program for SO_ATTACH_FILTER.
func (f *filter) socketFilter() []unix.SockFilter {
	prog := []unix.SockFilter{{Code: unix.BPF_LD | unix.BPF_H | unix.BPF_ABS, K: portOffset}}
	for _, r := range f.ranges {
		prog = append(prog,
			unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K, K: uint32(r.First), Jf: 2},
			unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JGT | unix.BPF_K, K: uint32(r.Last), Jt: 1},
			unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: 1 << 16},
		)
	}
	return append(prog, unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: 0})
}
