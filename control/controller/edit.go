package controller

import (
	"bytes"
	"errors"
	"fmt"

	"ringway/control"
	"ringway/control/object"
	"ringway/control/store"
)

// Results of an edit, as ObjectResult has them.
const (
	resultCreated   = "created"
	resultChanged   = "changed"
	resultUnchanged = "unchanged"
	resultDeleted   = "deleted"
	resultAbsent    = "absent"
)

// edit is a transaction in which objects are put and deleted with all that follows
// from them: node CIDRs, addresses and identities. It remembers what it touched.
type edit struct {
	store.Tx
	touched map[store.Key]bool
}

func newEdit(tx store.Tx) *edit { return &edit{tx, map[store.Key]bool{}} }

func (e *edit) Put(k store.Key, value []byte) error {
	e.touched[k] = true
	return e.Tx.Put(k, value)
}

func (e *edit) Delete(k store.Key) {
	e.touched[k] = true
	e.Tx.Delete(k)
}

// change is what the edit made so far, as the next version.
func (e *edit) change() store.Change {
	ch := store.Change{Version: e.Version() + 1}
	for k := range e.touched {
		if item, ok := e.Get(k); ok {
			ch.Puts = append(ch.Puts, item)
		} else {
			ch.Deletes = append(ch.Deletes, k)
		}
	}
	return ch
}

// errConflict is wrapped by what an edit returns that was made for another state of
// the object.
var errConflict = errors.New("get it again and apply the change to that")

// put makes or replaces an object. o is the edit's from then on.
func (e *edit) put(o object.Object) (result string, err error) {
	k := object.Key(o)
	old, had := e.Get(k)
	if err := checkRevision(o, old, had); err != nil {
		return "", err
	}
	if had {
		object.Inherit(o, old.Object.(object.Object))
	}
	if err := e.complete(o); err != nil {
		return "", whose(k, err)
	}
	value, err := object.Canonical(o)
	if err != nil {
		return "", err
	}
	if had && bytes.Equal(old.Value, value) {
		return resultUnchanged, nil
	}
	if err := object.Admit(e, o); err != nil {
		return "", err
	}
	if err := e.Put(k, value); err != nil {
		return "", err
	}
	if err := e.identify(o, old); err != nil {
		return "", whose(k, err)
	}
	if had {
		return resultChanged, nil
	}
	return resultCreated, nil
}

// checkRevision is optimistic concurrency: who read something before changing it
// must have read what is there.
func checkRevision(o object.Object, old store.Item, had bool) error {
	rev, given := object.Revision(o)
	switch {
	case !given || had && old.Revision == rev:
		return nil
	case !had:
		return fmt.Errorf("%s: metadata.resourceVersion: %d is not current, the object is gone: leave it out to make it anew; %w", object.Key(o), rev, errConflict)
	}
	return fmt.Errorf("%s: metadata.resourceVersion: %d is not current, %d is: %w", object.Key(o), rev, old.Revision, errConflict)
}

// complete chooses what is left out.
func (e *edit) complete(o object.Object) error {
	switch o := o.(type) {
	case *object.Node:
		if len(o.Spec.NodeCIDRs) > 0 {
			return nil
		}
		c, err := nodeCIDR(e, o.Spec.Pool)
		if err != nil {
			return err
		}
		o.Spec.NodeCIDRs = []string{c.String()}
	case *object.Endpoint:
		item, ok := e.Get(store.Key{Kind: object.KindNode, Name: o.Spec.Node})
		if o.Spec.Address != "" || !ok { // Admit says that there is no such node
			return nil
		}
		a, err := chooseAddress(e, item.Object.(*object.Node))
		if err != nil {
			return err
		}
		o.Spec.Address = a.String()
	}
	return nil
}

// identify keeps the identities in step with an endpoint that was put in place of
// old.
func (e *edit) identify(o object.Object, old store.Item) error {
	endpoint, ok := o.(*object.Endpoint)
	if !ok {
		return nil
	}
	if err := ensureIdentity(e, endpoint); err != nil {
		return err
	}
	if before, ok := old.Object.(*object.Endpoint); ok {
		dropIdentity(e, before)
	}
	return nil
}

// remove deletes an object, if there is one.
func (e *edit) remove(k store.Key) (result string, err error) {
	old, had := e.Get(k)
	if !had {
		return resultAbsent, nil
	}
	if err := object.AdmitDelete(e, k); err != nil {
		return "", err
	}
	e.Delete(k)
	switch o := old.Object.(type) {
	case *object.Endpoint:
		dropIdentity(e, o)
	case *object.Node:
		e.Delete(addressCounter(o.Name))
	}
	return resultDeleted, nil
}

// whose has the object's name before the fields of problems.
func whose(k store.Key, err error) error { return prefixed(k.String(), err) }

func prefixed(prefix string, err error) error {
	var ps control.Problems
	if !errors.As(err, &ps) {
		return fmt.Errorf("%s: %w", prefix, err)
	}
	out := make(control.Problems, len(ps))
	for i, p := range ps {
		p.Field = prefix + ": " + p.Field
		out[i] = p
	}
	return out
}
