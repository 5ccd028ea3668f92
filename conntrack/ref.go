package conntrack

// ID is the number of a flow's record in its table; 0: none. The record is
// reused after the flow is gone.
type ID uint32

// Ref makes a reference to one direction of the flow.
func (id ID) Ref(d Dir) Ref { return Ref(id)<<1 | Ref(d&1) }

// Ref names one direction of a flow; 0: none.
type Ref uint32

// ID of the flow.
func (r Ref) ID() ID { return ID(r >> 1) }

// Dir says which of the flow's tuples it is.
func (r Ref) Dir() Dir { return Dir(r & 1) }

// Dir is a direction of a flow.
type Dir uint8

const (
	// Original is the direction of the flow's first packet.
	Original Dir = iota
	// Reply is the direction of the answers.
	Reply
)

func (d Dir) String() string {
	if d == Original {
		return "original"
	}
	return "reply"
}
