package packet

// Martian says whether a packet between these addresses must not be forwarded:
// 0/8, 127/8, multicast, 240/4 and the limited broadcast (RFC 1812 5.3.7, RFC
// 6890), link-local addresses (RFC 3927 2.7), or a source that equals the
// destination (the "land" attack). It gives NoReason, MartianSource or
// MartianDestination.
func Martian(src, dst uint32) Reason {
	if martian(src) || src == dst {
		return MartianSource
	}
	if martian(dst) {
		return MartianDestination
	}
	return NoReason
}

// martian is the same set for both directions. The subtraction wraps at 0, so
// that one comparison finds 0/8 and everything from 224/4 up.
func martian(a uint32) bool {
	top := a >> 24
	return top-1 >= 223 || top == 127 || a>>16 == 169<<8|254
}
