package dnsquery

import "ringway/internal/keyedhash"

// hash is keyed, because clients choose all that is hashed.
type hash struct{ keyedhash.Hash }

func newHash(seed uint64) hash { return hash{keyedhash.New(seed)} }

// query is of what an answer says of its query.
func (h hash) query(client uint32, port, id uint16) uint32 {
	return h.Sum(uint64(client)<<32|uint64(port)<<16|uint64(id), 0)
}

// port is of a client's socket.
func (h hash) port(client uint32, port uint16) uint32 {
	return h.Sum(^(uint64(client)<<32 | uint64(port)<<16), 0)
}
