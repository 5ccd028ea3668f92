package controller

import (
	"context"
	"errors"

	"ringway/control"
	"ringway/control/compile"
	"ringway/control/object"
	"ringway/control/store"
)

// errBehind ends a transaction whose state has not been compiled yet.
var errBehind = errors.New("the state of the transaction is not compiled yet")

// update runs do on the newest state, with a compiler of that state. do is called
// again where the state has changed meanwhile. No other transaction of this
// controller is in between, so what the compiler knows is all there is.
//
// Without a compiler, when what is there cannot be compiled, do can still repair
// that.
func (c *controller) update(ctx context.Context, do func(*edit, *compile.Compiler) error) (version uint64, err error) {
	// Else do could find that nothing is to be done when another controller has just
	// changed it.
	if err := c.store.CatchUp(ctx); err != nil {
		return 0, err
	}
	c.alone.Lock()
	defer c.alone.Unlock()
	for {
		var at uint64
		version, err := c.store.Update(ctx, func(tx store.Tx) error {
			at = tx.Version()
			compiler, ok := c.feed.at(at)
			if _, broken := c.feed.state(); !ok && broken == nil {
				return errBehind
			}
			return do(newEdit(tx), compiler)
		})
		if !errors.Is(err, errBehind) {
			return version, err
		}
		if err := c.feed.wait(ctx, at); err != nil {
			return 0, err
		}
	}
}

// tryOut compiles what an edit makes and has it validated as a node would, so that
// nothing gets in that nodes would have to refuse. base is of the state before; nil:
// there is none. The update is what nodes would be sent.
func tryOut(e *edit, base *compile.Compiler) (*compile.Compiler, error) {
	if base == nil {
		return nil, nil
	}
	next := base.Clone()
	if _, err := next.Apply(e.change()); err != nil {
		return nil, err
	}
	nodes := e.List(object.KindNode, "")
	if len(nodes) == 0 {
		return next, nil
	}
	// What nodes get differs in the policies of their own pods only, and each of
	// these was looked at when it was decoded.
	node := nodes[0].Name
	set, err := next.TableSet(node)
	if err != nil {
		return nil, err
	}
	if _, err := control.Validate(set, node); err != nil {
		return nil, prefixed("the table set that comes of it", err)
	}
	return next, nil
}
