package control

import (
	"fmt"
	"sync"

	pb "ringway/control/ringwayv1"
	"ringway/dataplane"
)

// applier is the one way by which table sets reach the engine. Its lock makes
// the look at the version in force and the change of it one step.
type applier struct {
	mu     sync.Mutex
	engine Engine
	node   string
}

// api applies a set that came by the API and returns the version in force.
func (a *applier) api(set *pb.TableSet) (uint64, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	t, err := Validate(set, a.node)
	if err == nil {
		err = checkVersion(t.Version, a.engine.Status().TablesVersion)
	}
	return t.Version, a.offer(t, "api", err)
}

// file applies the content of a tables file. Its version is for the reader: a
// file is edited by hand and may repeat it, go back, or have none.
func (a *applier) file(path string, doc []byte) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	var t dataplane.Tables
	set, err := ParseTables(doc)
	if err == nil {
		t, err = Validate(set, a.node)
	}
	return a.offer(t, fileSource(path), err)
}

// controller applies a set that a controller pushed. That it does not go back is
// for its follower to see to.
func (a *applier) controller(address string, set *pb.TableSet) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	t, err := Validate(set, a.node)
	source := "controller:" + address
	if err != nil {
		a.engine.Refused(source, err)
		return err
	}
	return a.engine.Apply(t, source)
}

// refuse remembers that a file could not be read.
func (a *applier) refuse(path string, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.engine.Refused(fileSource(path), err)
}

func fileSource(path string) string { return "file:" + path }

// offer gives t to the engine, unless it is invalid already. The engine
// remembers a refusal of either kind.
func (a *applier) offer(t dataplane.Tables, source string, invalid error) error {
	if invalid != nil {
		a.engine.Refused(source, invalid)
		return invalid
	}
	if err := a.engine.Apply(t, source); err != nil {
		return fmt.Errorf("apply table set %d: %w", t.Version, err)
	}
	return nil
}

// checkVersion keeps an old controller, or one that answers late, from turning
// the clock back. The same version again is the same set again.
func checkVersion(offered, inForce uint64) error {
	if offered == 0 {
		return Problems{{"version", "missing", "number the sets upwards from 1"}}
	}
	if offered < inForce {
		return Problems{{"version", fmt.Sprintf("%d is older than %d, which is in force", offered, inForce), fmt.Sprintf("offer version %d or later", inForce)}}
	}
	return nil
}
