package push

import (
	"maps"
	"time"

	pb "ringway/control/ringwayv1"
)

// State is what a server knows of a node.
type State struct {
	Connected bool
	Since     time.Time // when it connected, or went
	Version   uint64    // in force at the node
	Refused   uint64    // the version that it refused last, if none was put in force since; or 0
	Problems  []*pb.Problem
}

// notices calls a function with the states of nodes, one after the other and
// never an older one after a newer one. What changes meanwhile is told once. There
// is a goroutine only while there is something to tell.
type notices struct {
	call  func(node string, st State) // nil: nobody wants to know
	dirty map[string]bool
	busy  bool
}

// OnState sets the function that is told when a node connects or goes, refuses a
// set or has got over it. It is set before the first Follow, and may take its time.
func (s *Server) OnState(f func(node string, st State)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.notices.call = f
}

// States are those of all nodes that have been connected and are not gone.
func (s *Server) States() map[string]State {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make(map[string]State, len(s.nodes))
	for name, n := range s.nodes {
		out[name] = n.state
	}
	return out
}

// notify has the node's state told; the caller holds the lock.
func (s *Server) notify(node string) {
	n := &s.notices
	if n.call == nil {
		return
	}
	if n.dirty == nil {
		n.dirty = map[string]bool{}
	}
	n.dirty[node] = true
	if !n.busy {
		n.busy = true
		s.group.Go(s.tell)
	}
}

// tell runs until there is nothing more to tell.
func (s *Server) tell() {
	for {
		s.mu.Lock()
		batch := s.notices.take(s.nodes)
		s.notices.busy = len(batch) > 0
		call := s.notices.call
		s.mu.Unlock()
		if len(batch) == 0 {
			return
		}
		for node, st := range maps.All(batch) {
			call(node, st)
		}
	}
}

func (n *notices) take(nodes map[string]*node) map[string]State {
	batch := make(map[string]State, len(n.dirty))
	for name := range n.dirty {
		if known := nodes[name]; known != nil {
			batch[name] = known.state
		}
	}
	clear(n.dirty)
	return batch
}
