package compile

import (
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"

	pb "ringway/control/ringwayv1"
	"ringway/control/tableset"
)

// slowSize takes a table set apart.
func slowSize(set *pb.TableSet) PolicySize {
	size := PolicySize{Bytes: proto.Size(set.GetPolicy())}
	for _, p := range set.GetPolicy().GetPolicies() {
		for _, rule := range slices.Concat(p.GetIngress().GetRules(), p.GetEgress().GetRules()) {
			for _, b := range rule.GetBlocks() {
				size.Blocks += 1 + len(b.GetExcept())
			}
		}
	}
	return size
}

// tableSets are those of all nodes.
func tableSets(t *testing.T, c *Compiler) map[string]*pb.TableSet {
	t.Helper()
	out := map[string]*pb.TableSet{}
	for _, node := range c.Nodes() {
		set, err := c.TableSet(node)
		if err != nil {
			t.Fatal(err)
		}
		set.Version = 0 // is another each time
		out[node] = set
	}
	return out
}

// TestOverfull compares with the sets of all nodes, as they are after each of many
// random changes, and as they were before.
func TestOverfull(t *testing.T) {
	found, spared := 0, 0
	for seed := range uint64(8) {
		d := newDice(seed)
		w, c := newWorld(), New("c")
		before := map[string]*pb.TableSet{}
		for range 120 {
			for range 1 + d.IntN(3) {
				d.mutate(w)
			}
			u, err := c.Apply(w.change())
			if err != nil {
				t.Fatal(err)
			}
			sets := tableSets(t, c)
			for _, set := range sets {
				size := slowSize(set) // some nodes are larger than the one, and some are not
				size.Blocks -= d.IntN(2)
				size.Bytes -= d.IntN(2)
				f, s := checkOverfull(t, c, u, size, sets, before)
				found, spared = found+f, spared+s
			}
			before = sets
		}
	}
	if found < 500 || spared < 100 {
		t.Errorf("%d nodes were found and %d left alone that are given nothing: too few", found, spared)
	}
}

// checkOverfull asks by blocks and by bytes.
func checkOverfull(t *testing.T, c *Compiler, u tableset.Update, limit PolicySize, sets, before map[string]*pb.TableSet) (found, spared int) {
	t.Helper()
	const unbounded = 1 << 40
	slack := len(c.state.Load().common.at(tableset.KeySettings).Value)
	byBlocks := c.Overfull(u, PolicySize{limit.Blocks, unbounded})
	byBytes := c.Overfull(u, PolicySize{unbounded, limit.Bytes})
	if !slices.IsSorted(byBlocks) || !slices.IsSorted(byBytes) {
		t.Fatalf("%v or %v is in no order", byBlocks, byBytes)
	}
	for node, set := range sets {
		size, given := slowSize(set), !proto.Equal(set, before[node])
		for _, q := range []struct {
			what                 string
			among                []string
			size, limit, atLeast int
		}{{"blocks", byBlocks, size.Blocks, limit.Blocks, size.Blocks}, {"bytes", byBytes, size.Bytes, limit.Bytes, size.Bytes + slack}} {
			named := slices.Contains(q.among, node)
			switch {
			case named && q.atLeast <= q.limit:
				t.Fatalf("%s has %d %s, and is found to have more than %d", node, q.size, q.what, q.limit)
			case !named && given && q.size > q.limit:
				t.Fatalf("%s is given %d %s, and is not found to have more than %d", node, q.size, q.what, q.limit)
			case named:
				found++
			case q.size > q.limit:
				spared++
			}
		}
	}
	return found, spared
}
