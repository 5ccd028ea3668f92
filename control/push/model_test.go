package push

import (
	"math/rand/v2"
	"path/filepath"
	"sync"
	"testing"
	"time"

	pb "ringway/control/ringwayv1"
)

// TestManyNodesManyChanges has nodes follow two controllers, one of which lags
// behind, while versions come at random and with gaps, nodes refuse sets, lose their
// connections and are started again with what they saved. Every node must only ever
// rise, always have exactly what the set was at its version, and end at the last.
func TestManyNodesManyChanges(t *testing.T) {
	const nodes, rounds = 6, 150
	for seed := range uint64(3) {
		r := rand.New(rand.NewPCG(seed, 7))
		w := newWorld(t, nodes)
		sites := []*site{
			newSite(t, ServerOptions{Window: time.Millisecond, CheckInterval: 10 * time.Millisecond}),
			newSite(t, ServerOptions{Window: 3 * time.Millisecond, CheckInterval: 10 * time.Millisecond}),
		}
		heads := make([]uint64, len(sites)) // what each has published
		w.commit(1)
		crowd := make([]*member, nodes)
		for i := range crowd {
			crowd[i] = &member{t: t, name: nodeName(i), file: filepath.Join(t.TempDir(), "set"), sites: sites, seed: seed}
			crowd[i].start()
		}
		for range rounds {
			for range r.IntN(4) {
				w.stir(r, nodes)
			}
			w.commit(1 + r.Uint64N(3))
			for i, s := range sites {
				if r.IntN(1+3*i) == 0 { // the second one only now and then
					s.server.Publish(w.update(heads[i], w.version))
					heads[i] = w.version
				}
			}
			switch m := crowd[r.IntN(nodes)]; r.IntN(8) {
			case 0:
				m.stop()
				m.start()
			case 1:
				cut(sites[r.IntN(len(sites))], m.name)
			}
			time.Sleep(time.Duration(r.IntN(2000)) * time.Microsecond)
		}
		for i, s := range sites {
			if heads[i] != w.version {
				s.server.Publish(w.update(heads[i], w.version))
			}
		}
		for _, m := range crowd {
			m.agent.setRefuse(nil)
			eventually(t, m.name+" has the last version", func() bool { return m.agent.Connection().Version == w.version })
			m.stop()
			m.verify(w)
		}
	}
}

// cut ends the stream of a node.
func cut(s *site, node string) {
	s.server.mu.Lock()
	defer s.server.mu.Unlock()
	if n := s.server.nodes[node]; n != nil && n.session != nil {
		close(n.session.replaced)
		n.session = nil
	}
}

// member is a node that is stopped and started.
type member struct {
	t     *testing.T
	name  string
	file  string
	sites []*site
	seed  uint64
	agent *agent
	halt  func()
	past  []*agent
}

func (m *member) start() {
	o := FollowerOptions{StateFile: m.file, SaveInterval: time.Millisecond, RetryInterval: 5 * time.Millisecond}
	m.agent = newAgent(m.t, m.name, o, m.sites...)
	var mu sync.Mutex
	r := rand.New(rand.NewPCG(m.seed, uint64(len(m.past))))
	m.agent.setRefuse(func(*pb.TableSet) []*pb.Problem {
		mu.Lock()
		defer mu.Unlock()
		if r.IntN(5) == 0 {
			return problem("nodes")
		}
		return nil
	})
	m.halt = m.agent.run(m.t)
}

func (m *member) stop() {
	m.halt()
	m.past = append(m.past, m.agent)
}

// verify looks at all that the node ever applied, as one.
func (m *member) verify(w *world) {
	m.t.Helper()
	all := &agent{}
	for _, a := range m.past {
		all.applied = append(all.applied, a.applied...)
	}
	if len(all.applied) < 3 {
		m.t.Errorf("%s applied %d sets: that shows nothing", m.name, len(all.applied))
	}
	w.verify(m.name, all)
}
