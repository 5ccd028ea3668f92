package control

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"ringway/dataplane"
)

func TestPrintedConfigParsesBack(t *testing.T) {
	full := DefaultConfig()
	full.Node, full.Tables, full.CPUs = "node1", "/etc/tables.yaml", []int{1, 3}
	full.Uplinks = []Uplink{defaultUplink("eth0"), {Device: "eth1", Driver: "asavie", XDPMode: "generic", ZeroCopy: "never", Take: "all", OwnUMEM: true}}
	for name, want := range map[string]Config{"defaults": DefaultConfig(), "every key set": full} {
		var b bytes.Buffer
		if err := WriteConfig(&b, want); err != nil {
			t.Fatal(err)
		}
		got, err := ParseConfig(b.Bytes())
		if err != nil {
			t.Fatalf("%s: %v\n%s", name, err, b.String())
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v\nwant %+v\nfrom\n%s", name, got, want, b.String())
		}
	}
}

func TestEveryKeyIsExplained(t *testing.T) {
	var b bytes.Buffer
	if err := WriteConfig(&b, DefaultConfig()); err != nil {
		t.Fatal(err)
	}
	for _, typ := range []reflect.Type{reflect.TypeFor[Config](), reflect.TypeFor[Uplink]()} {
		for i := range typ.NumField() {
			key, doc := typ.Field(i).Tag.Get("json"), typ.Field(i).Tag.Get("doc")
			if doc == "" || !strings.Contains(b.String(), key+":") || !strings.Contains(b.String(), "# "+doc) {
				t.Errorf("key %s of %s is not printed with what it means", key, typ.Name())
			}
		}
	}
}

func TestDefaultsAreTheDataplanes(t *testing.T) {
	c := DefaultConfig()
	c.Node = "node1"
	c.Uplinks = []Uplink{defaultUplink("eth0")}
	want := dataplane.DefaultConfig()
	want.Node, want.CPUs = "node1", []int{}
	want.Uplinks = []dataplane.UplinkConfig{dataplane.DefaultUplink("eth0")}
	if got := c.Dataplane(); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	c.Spin = "2ms"
	if got := c.Dataplane().Spin; got != 2*time.Millisecond {
		t.Errorf("spin is %s", got)
	}
}

func TestLoadConfig(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "agent.yaml")
	write := func(doc string) {
		if err := os.WriteFile(path, []byte(doc), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("node: n1\nuplinks: [{device: eth0, take: all}]\nspin: 1ms\n")
	c, err := LoadConfig(path)
	if err != nil {
		t.Fatal(err)
	}
	want := DefaultConfig()
	want.Node, want.Spin = "n1", "1ms"
	want.Uplinks = []Uplink{defaultUplink("eth0")}
	want.Uplinks[0].Take = "all"
	if !reflect.DeepEqual(c, want) {
		t.Errorf("got  %+v\nwant %+v", c, want)
	}

	write("uplinks: [{device: eth0}]\n")
	if c, err = LoadConfig(path); err != nil {
		t.Fatal(err)
	}
	if host, _ := os.Hostname(); c.Node != strings.ToLower(host) {
		t.Errorf("node is %q, want the host name %q", c.Node, host)
	}

	write("ringsize: 5\n")
	_, err = LoadConfig(path)
	if want := path + ": ringsize: unknown field: write ringSize"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	write("workers: 0\nuplinks: [{device: eth0}]\n")
	_, err = LoadConfig(path)
	if want := path + ": workers: 0 is out of range: choose 1 to 64"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	if _, err := LoadConfig(filepath.Join(dir, "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v, want that the file does not exist", err)
	}
}

func TestBadConfig(t *testing.T) {
	long := "/" + strings.Repeat("s", 104)
	cases := []struct{ doc, want string }{
		{"workers: two", "workers: two is not a whole number: write digits, without quotes"},
		{"cpus: 1", `cpus: 1 is not a list: write a list, [a, b] or one "- a" line each`},
		{"uplinks: [{device: eth0, mode: x}]", "uplinks[0].mode: unknown field: known here: device, driver, xdpMode, zeroCopy, take, ownUMEM"},
		{"restoreTables: 1", "restoreTables: 1 is not a boolean: write true or false"},
		{"node: Node_1", `node: "Node_1" is not an RFC 1123 name: use a-z, 0-9, - and ., with a letter or digit at both ends of each part`},
		{"socket: agent.sock", `socket: "agent.sock" is not an absolute path: start it with /`},
		{"socket: " + long, "socket: the path has 105 bytes: keep to 103: the kernel takes no more"},
		{"stateDir: ''", `stateDir: "" is not an absolute path: start it with /`},
		{"pinDir: x", `pinDir: "x" is not an absolute path: start it with /`},
		{"tables: tables.yaml", `tables: "tables.yaml" is not an absolute path: start it with /`},
		{"uplinks: []", "uplinks: there is none: name at least one NIC, as in [{device: eth0}]"},
		{"uplinks: [{take: all}]", "uplinks[0].device: missing: name the NIC, as in eth0"},
		{"uplinks: [{device: eth0/1}]", `uplinks[0].device: "eth0/1" is no interface name: use a name from ip link`},
		{"uplinks: [{device: eth0}, {device: eth0}]", `uplinks[1].device: "eth0" is also uplinks[0]: name each NIC once`},
		{"uplinks: [{device: eth0, driver: dpdk}]", `uplinks[0].driver: "dpdk" is not known: write xsk or asavie`},
		{"uplinks: [{device: eth0, xdpMode: skb}]", `uplinks[0].xdpMode: "skb" is not known: write auto or native or generic`},
		{"uplinks: [{device: eth0, zeroCopy: yes please}]", `uplinks[0].zeroCopy: "yes please" is not known: write auto or never or always`},
		{"uplinks: [{device: eth0, take: mine}]", `uplinks[0].take: "mine" is not known: write ours or all`},
		{"workers: 65", "workers: 65 is out of range: choose 1 to 64"},
		{"cpus: [-1]", "cpus[0]: -1 is out of range: choose 0 to 8191"},
		{"cpus: [1, 1]", "cpus[1]: 1 is there twice: name each CPU once"},
		{"scheduler: rr", `scheduler: "rr" is not known: write other or fifo`},
		{"idle: sleep", `idle: "sleep" is not known: write busy or adaptive or interrupt`},
		{"spin: 50", `spin: 50 is not a string: write "50", in quotes`},
		{"spin: 1s", `spin: "1s" is not a duration from 0 to 10ms: write it as in 50us`},
		{"frames: 7", "frames: 7 is out of range: choose 2048 to 4194304"},
		{"chunkSize: 3000", "chunkSize: 3000 is not supported: write 2048, or 4096 for MTUs above 1500"},
		{"ringSize: 1000", "ringSize: 1000 is not a power of two from 64 to 32768: write 2048, or another of these"},
		{"fillDepth: 4096", "fillDepth: 4096 is out of range: choose 1 to 2048"},
		{"podMTU: 9000", "podMTU: 9000 is out of range: choose 576 to 1728"},
		{"maxEndpoints: 0", "maxEndpoints: 0 is out of range: choose 1 to 65535"},
		{"logLevel: loud", `logLevel: "loud" is not known: write debug or info or warn or error`},
	}
	for _, c := range cases {
		t.Run(c.doc, func(t *testing.T) {
			doc := c.doc
			for key, line := range map[string]string{"node:": "node: node1", "uplinks:": "uplinks: [{device: eth0}]"} {
				if !strings.HasPrefix(doc, key) {
					doc += "\n" + line
				}
			}
			got, err := ParseConfig([]byte(doc))
			if err == nil {
				err = got.Validate()
			}
			if err == nil || err.Error() != c.want {
				t.Errorf("got  %v\nwant %s", err, c.want)
			}
		})
	}
}
