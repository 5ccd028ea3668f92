package conntrack

import (
	"path/filepath"
	"testing"

	"ringway/packet"
)

const second = int64(1e9)

func udp(i int) packet.Tuple {
	return packet.Tuple{Src: 0x0ac80003, Dst: 0xc633640a, SrcPort: uint16(1024 + i%60000), DstPort: uint16(1000 + i/60000), Proto: packet.ProtoUDP}
}

func plain(tu packet.Tuple) New { return New{Original: tu, Reply: tu.Reverse(), Owner: NoOwner} }

func TestSmoke(t *testing.T) {
	path := filepath.Join(t.TempDir(), "flows")
	o := Options{Path: path, Capacity: 1000, Now: second, Shards: 1, BootID: "b"}
	table, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 1000 {
		if _, r := table.Create(plain(udp(i)), second); r != Created {
			t.Fatal(i, r)
		}
	}
	if _, r := table.Create(plain(udp(1001)), second); r != Full {
		t.Fatal(r)
	}
	for i := range 1000 {
		if table.Lookup(udp(i), second) == 0 || table.Lookup(udp(i).Reverse(), second).Dir() != Reply {
			t.Fatal(i)
		}
	}
	table.Close()
	table, err = Open(o)
	if err != nil || table.Recovery().Flows != 1000 {
		t.Fatal(err, table.Recovery())
	}
	if n := table.Tick(301*second+32e6, 2000); n != 1000 {
		t.Fatal(n, table.NextDeadline(), table.Counters())
	}
}
