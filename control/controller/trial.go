package controller

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"

	"ringway/control"
	"ringway/control/compile"
	pb "ringway/control/ringwayv1"
	"ringway/control/store"
	"ringway/control/tableset"
	"ringway/dataplane"
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

// tryOut compiles what an edit makes and has it validated as nodes would, so that
// nothing gets in that a node would have to refuse. base is of the state before; nil:
// there is none.
func tryOut(e *edit, base *compile.Compiler) error {
	if base == nil {
		return nil
	}
	next := base.Clone()
	u, err := next.Apply(e.change())
	if err != nil {
		return err
	}
	doubtful, err := doubtfulNodes(next, u)
	if err != nil {
		return err
	}
	for _, node := range doubtful {
		set, err := next.TableSet(node)
		if err != nil {
			return err
		}
		if _, err := control.Validate(set, node); err != nil {
			return prefixed(fmt.Sprintf("the table set of node %s that comes of it", node), err)
		}
	}
	return nil
}

// doubtfulNodes are those whose sets have to be looked at, that all nodes are known to
// take what an update gives them. A set is made of what all nodes get, which one node
// can speak for, and of the rules of the node's own pods: each of these is looked at
// for itself, and how many they are, at each node.
func doubtfulNodes(next *compile.Compiler, u tableset.Update) ([]string, error) {
	doubtful := next.Overfull(u, compile.PolicySize{Blocks: control.MaxPolicyBlocks, Bytes: control.MaxPolicyBytes})
	if nodes := next.Nodes(); len(u.Common) > 0 && len(nodes) > 0 {
		doubtful = append(doubtful, nodes[0])
	}
	for _, c := range u.Policies {
		if c.Resource == nil {
			continue
		}
		rules := &pb.IdentityPolicy{}
		if err := proto.Unmarshal(c.Resource.Value, rules); err != nil {
			return nil, fmt.Errorf("decode %s: %w", c.Key, err)
		}
		if soundRules(next, rules) {
			continue
		}
		if node, ok := next.Holder(rules.GetIdentity()); ok {
			doubtful = append(doubtful, node)
		}
	}
	slices.Sort(doubtful)
	return slices.Compact(doubtful), nil
}

// soundRules tells whether a node takes the rules of an identity if it takes what it
// gets beside them.
func soundRules(c *compile.Compiler, rules *pb.IdentityPolicy) bool {
	const node = "node"
	set := &pb.TableSet{
		Routing: string(dataplane.RoutingOverlay),
		Nodes:   []*pb.Node{{Name: node, Address: "192.0.2.1", NodeCidrs: []string{"198.51.100.0/24"}}},
		Policy:  &pb.Policy{Policies: []*pb.IdentityPolicy{rules}},
	}
	for _, id := range mentioned(rules) {
		if c.Knows(id) {
			set.Policy.Identities = append(set.Policy.Identities, &pb.Identity{Id: id, Namespace: "default"})
		}
	}
	_, err := control.Validate(set, node)
	return err == nil
}

// mentioned are the identities that rules are of and name, ascending.
func mentioned(rules *pb.IdentityPolicy) []uint32 {
	ids := []uint32{rules.GetIdentity()}
	for _, d := range []*pb.DirectionPolicy{rules.GetIngress(), rules.GetEgress()} {
		for _, r := range d.GetRules() {
			ids = append(ids, r.GetIdentities()...)
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}
