package controller

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"ringway/control"
	"ringway/control/object"
	"ringway/control/store"
)

// maxIdentities is what one table set can have.
const maxIdentities = 65536

// identityCounter is where the highest id is kept that was ever given. Ids are not
// given again, so that a node that is behind takes nobody for somebody else.
var identityCounter = store.Key{Kind: object.KindCounter, Name: "identity"}

// ensureIdentity makes the identity of an endpoint unless there is one.
func ensureIdentity(tx store.Tx, e *object.Endpoint) error {
	want := e.Identity()
	for item := range tx.Indexed(object.IdentityLike(want)) {
		if sameIdentity(item.Object.(*object.Identity), &want) {
			return nil
		}
	}
	if n := tx.Count(object.KindIdentity); n >= maxIdentities {
		return control.Problems{{
			Field: "spec.labels", Reason: fmt.Sprintf("there are %d identities, and each set of namespace, labels and named ports takes one", n), Remedy: "give pods fewer labels that are their own",
		}}
	}
	last := uint64(object.MinIdentity - 1)
	if item, ok := tx.Get(identityCounter); ok {
		n, err := strconv.ParseUint(string(item.Value), 10, 32)
		if err != nil {
			return fmt.Errorf("%s holds %q: restore etcd from a backup", identityCounter, item.Value)
		}
		last = n
	}
	if last >= 1<<32-1 {
		return errors.New("all ids of identities were given: make a new cluster")
	}
	want.ID = uint32(last + 1)
	value, err := want.Canonical()
	if err != nil {
		return err
	}
	if err := tx.Put(identityCounter, strconv.AppendUint(nil, last+1, 10)); err != nil {
		return err
	}
	return tx.Put(object.IdentityKey(want.ID), value)
}

// dropIdentity takes the identity away that an endpoint had, if it was the last one
// with it. The endpoint is changed or gone by now.
func dropIdentity(tx store.Tx, e *object.Endpoint) {
	had := e.Identity()
	for item := range tx.Indexed(object.Alike(had)) {
		if other := item.Object.(*object.Endpoint).Identity(); sameIdentity(&other, &had) {
			return
		}
	}
	for item := range tx.Indexed(object.IdentityLike(had)) {
		if sameIdentity(item.Object.(*object.Identity), &had) {
			tx.Delete(item.Key)
			return
		}
	}
}

// sameIdentity looks at all but the ids.
func sameIdentity(a, b *object.Identity) bool {
	return a.Namespace == b.Namespace && maps.Equal(a.Labels, b.Labels) && slices.Equal(a.Ports, b.Ports)
}
