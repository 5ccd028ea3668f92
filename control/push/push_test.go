package push

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { os.Exit(leaks(m)) }

func leaks(m *testing.M) int {
	code := m.Run()
	if err := goleak.Find(); err != nil && code == 0 {
		println(err.Error())
		return 1
	}
	return code
}

func TestFullThenChanges(t *testing.T) {
	s := newSite(t, ServerOptions{})
	w := newWorld(t, 2)
	w.policies(256, 1)
	w.policies(257, 1)
	w.nodes["n0"] = []uint32{256}
	v1 := w.commit(1)
	s.server.Publish(w.update(0, v1))
	a := newAgent(t, "n0", FollowerOptions{}, s)
	a.run(t)
	a.wait(t, v1)

	w.service("dns", 1)
	w.nodes["n0"] = []uint32{257}
	v2 := w.commit(5)
	s.server.Publish(w.update(v1, v2))
	a.wait(t, v2)
	w.verify("n0", a)
	if got := a.changed[1].Keys; len(got) != 3 {
		t.Errorf("changed %v, want the service and two policies", got)
	}
}
