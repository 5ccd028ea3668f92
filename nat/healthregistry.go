package nat

// HealthRegistry keeps the health of each backend, an address and port, while
// tables come and go. It belongs to whoever resolves tables, and is not for
// several at a time; the Healths that it gives are.
type HealthRegistry struct {
	known map[backendKey]*Health
	used  map[backendKey]*Health // by the table that is being resolved
}

type backendKey struct {
	addr uint32
	port uint16
}

// NewHealthRegistry makes one that knows no backend.
func NewHealthRegistry() *HealthRegistry { return &HealthRegistry{} }

// begin starts a table.
func (r *HealthRegistry) begin() { r.used = make(map[backendKey]*Health, len(r.known)) }

// of is the health of a backend of the table; one that was not known is healthy.
func (r *HealthRegistry) of(addr uint32, port uint16, now int64) *Health {
	key := backendKey{addr, port}
	if h := r.used[key]; h != nil {
		return h
	}
	h := r.known[key]
	if h == nil {
		h = &Health{}
		h.word.Store(sinceWord(now))
	}
	r.used[key] = h
	return h
}

// finish ends a table: what it does not use is forgotten.
func (r *HealthRegistry) finish() { r.known, r.used = r.used, nil }
