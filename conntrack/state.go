package conntrack

// State of a flow. tcp.go draws how the states of TCP follow each other.
type State uint8

const (
	// StateNone: the record is free.
	StateNone State = iota
	// StateNew: created, no packet seen yet.
	StateNew
	// StateSynSent: a SYN, not answered yet.
	StateSynSent
	// StateSynSent2: a SYN from either side, simultaneous open.
	StateSynSent2
	// StateSynRecv: one side has acknowledged the other's SYN.
	StateSynRecv
	// StateEstablished: both sides have.
	StateEstablished
	// StateMidStream: picked up without a SYN; only one side was seen yet.
	StateMidStream
	// StateFinWait: one side has sent its FIN.
	StateFinWait
	// StateCloseWait: that FIN is acknowledged; the other side may go on sending.
	StateCloseWait
	// StateTimeWait: both sides have sent their FIN.
	StateTimeWait
	// StateReset: an acceptable RST was seen.
	StateReset
	// StateUnreplied: not TCP, no answer yet.
	StateUnreplied
	// StateReplied: not TCP, answered.
	StateReplied

	// NumStates is how many there are, free included.
	NumStates
)

var stateNames = [NumStates]string{
	"NONE", "NEW", "SYN_SENT", "SYN_SENT2", "SYN_RECV", "ESTABLISHED", "MID_STREAM", "FIN_WAIT", "CLOSE_WAIT", "TIME_WAIT", "RESET",
	"UNREPLIED", "REPLIED",
}

// String is the name that listings show.
func (s State) String() string {
	if s >= NumStates {
		return "INVALID"
	}
	return stateNames[s]
}

// closed says that nothing more is expected of a connection.
func (s State) closed() bool { return s == StateTimeWait || s == StateReset }

// possible says whether a flow of the class can be in the state.
func (s State) possible(c class) bool {
	if c == classTCP {
		return s >= StateNew && s <= StateReset
	}
	return s == StateUnreplied || s == StateReplied
}

// Event says what a packet changed that others have to know.
type Event uint8

const (
	// Closed: both FINs were seen, the flow entered TIME_WAIT.
	Closed Event = 1 << iota
	// Reopened: a new connection on the tuples of an old one.
	Reopened
	// Assured: the flow is no longer one that a full table may give up: the
	// other side answered, or TCP's handshake is complete.
	Assured
	// Reversed: the side that answers asks for a connection of its own, by a SYN
	// that is no part of a simultaneous open.
	Reversed
)

// class of a flow says which timeouts it has. It follows from protocol and port.
type class uint8

const (
	classTCP class = iota
	classUDP
	classDNS
	classICMP
	classOther
	numClasses class = 8
)
