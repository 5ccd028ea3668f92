package conntrack

// Counters of a table since it was opened.
type Counters struct {
	Created   uint64
	Expired   uint64 // removed because their deadline was reached
	Reaped    uint64 // given up, unassured or closed, to make room
	Deleted   uint64 // removed by Delete
	Full      uint64 // refused: no room, and none to be made
	OverQuota uint64 // refused: the owner has as many as it may have
	Clash     uint64 // refused: a live flow has one of the tuples

	// Flows that there are now, by state.
	Flows [NumStates]uint64
}

// Counters gives a copy.
func (t *Table) Counters() Counters { return t.counters }

// Recovery says what Open found.
type Recovery struct {
	Flows     int    // taken over
	Expired   int    // left out: their deadline was reached meanwhile
	Invalid   int    // left out: not whole
	ColdStart string // why nothing could be taken over; "": the file was good
}

// NoStateFile is the reason for a cold start when there was no file, or an empty
// one. Other reasons mean that flows were lost.
const NoStateFile = "no state file"

// Recovery says what Open found.
func (t *Table) Recovery() Recovery { return t.recovery }
