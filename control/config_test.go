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
	full.IPMasqAgentFile, full.IPMasqAgentProfile, full.SNATPorts = "/etc/config/ip-masq-agent", "upstream", "40000-50000"
	full.Timeouts.UDP, full.AllowShortTimeouts = "30s", true
	full.Redirects, full.DNSDeadline, full.DNSMaxQueries, full.DNSMaxQueriesPerEndpoint = "/etc/ringway/redirects", "50ms", 64, 1
	full.DNSProbeInterval = "1m"
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
	for _, typ := range []reflect.Type{reflect.TypeFor[Config](), reflect.TypeFor[Uplink](), reflect.TypeFor[Timeouts]()} {
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

func TestMasqueradeKeys(t *testing.T) {
	c, err := ParseConfig([]byte(`
node: node1
uplinks: [{device: eth0}]
ipMasqAgentFile: /etc/config/ip-masq-agent
ipMasqAgentProfile: upstream
maxFlows: 2000
maxFlowsPerEndpoint: 0
maxPortsPerEndpoint: 100
snatPorts: 40000-50000
maxSnatAddresses: 3
timeouts: {tcpEstablished: 1h, tcpTransitory: 1m, udp: 2s, icmp: 3s, dns: 4s, dnsAnswered: 500ms, other: 168h}
allowShortTimeouts: true
`))
	if err == nil {
		err = c.Validate()
	}
	if err != nil {
		t.Fatal(err)
	}
	got := c.Dataplane()
	want := dataplane.DefaultConfig()
	want.Node, want.Uplinks, want.CPUs = got.Node, got.Uplinks, got.CPUs
	want.IPMasqFile, want.IPMasqProfile = "/etc/config/ip-masq-agent", "upstream"
	want.MaxFlows, want.MaxFlowsPerEndpoint, want.MaxPortsPerEndpoint = 2000, 0, 100
	want.SNATPorts, want.MaxSNATAddresses = [2]uint16{40000, 50000}, 3
	want.Timeouts = dataplane.FlowTimeouts{
		TCPEstablished: time.Hour, TCPTransitory: time.Minute, UDP: 2 * time.Second, ICMP: 3 * time.Second,
		DNS: 4 * time.Second, DNSAnswered: 500 * time.Millisecond, Other: 168 * time.Hour,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestRedirectKeys(t *testing.T) {
	c, err := ParseConfig([]byte(`
node: node1
uplinks: [{device: eth0}]
redirects: /etc/ringway/redirects
dnsDeadline: 1500us
dnsMaxQueries: 100
dnsMaxQueriesPerEndpoint: 100
dnsProbeInterval: 1m
`))
	if err == nil {
		err = c.Validate()
	}
	if err != nil {
		t.Fatal(err)
	}
	got := c.Dataplane()
	want := dataplane.DefaultConfig()
	want.Node, want.Uplinks, want.CPUs = got.Node, got.Uplinks, got.CPUs
	want.RedirectsFile, want.DNSDeadline, want.DNSProbeInterval = "/etc/ringway/redirects", 1500*time.Microsecond, time.Minute
	want.DNSMaxQueries, want.DNSMaxQueriesPerEndpoint = 100, 100
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestShortDuration(t *testing.T) {
	for want, d := range map[string]time.Duration{
		"2h4m": 124 * time.Minute, "168h": 168 * time.Hour, "1m": time.Minute, "1m30s": 90 * time.Second,
		"30s": 30 * time.Second, "0s": 0, "10s": 10 * time.Second, "1h0m10s": time.Hour + 10*time.Second, "20m": 20 * time.Minute, "10h": 10 * time.Hour,
	} {
		if got := shortDuration(d); got != want {
			t.Errorf("%s is written %s, want %s", d, got, want)
		}
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

	write("node: n1\nuplinks: [{device: eth0}]\ntimeouts: {udp: 3m, dns: 1s}\n") // the others stay
	if c, err = LoadConfig(path); err != nil {
		t.Fatal(err)
	}
	want = DefaultConfig()
	want.Node, want.Uplinks = "n1", []Uplink{defaultUplink("eth0")}
	want.Timeouts.UDP, want.Timeouts.DNS = "3m", "1s"
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
		{"ipMasqAgentFile: ip-masq-agent", `ipMasqAgentFile: "ip-masq-agent" is not an absolute path: start it with /`},
		{"ipMasqAgentProfile: calico", `ipMasqAgentProfile: "calico" is not known: write cilium or upstream`},
		{"ipMasqAgentProfile: ''", `ipMasqAgentProfile: "" is not known: write cilium or upstream`},
		{"maxFlows: 1000", "maxFlows: 1000 is out of range: choose 1024 to 16777216"},
		{"maxFlowsPerEndpoint: -1", "maxFlowsPerEndpoint: -1 is out of range: choose 0 to 16777216"},
		{"maxPortsPerEndpoint: -1", "maxPortsPerEndpoint: -1 is out of range: choose 0 to 16777216"},
		{"snatPorts: ''", `snatPorts: "" is not two ports, low-high: write it as in 49152-65535`},
		{"snatPorts: 65535-49152", `snatPorts: "65535-49152" does not go upwards: write it as in 49152-65535`},
		{"snatPorts: 1000-2000", "snatPorts: 1000-2000 begins below 1024: write it as in 49152-65535"},
		{"maxSnatAddresses: 0", "maxSnatAddresses: 0 is out of range: choose 1 to 256"},
		{"timeouts: 5m", "timeouts: 5m is not a mapping: write key: value lines; known here: tcpEstablished, tcpTransitory, udp, icmp, dns, dnsAnswered, other"},
		{"timeouts: {UDP: 5m}", "timeouts.UDP: unknown field: write udp"},
		{"timeouts: {udp: 300}", `timeouts.udp: 300 is not a string: write "300", in quotes`},
		{"timeouts: {udp: five}", `timeouts.udp: "five" is not a duration from 1ms to 168h: write it as in 2m`},
		{"timeouts: {udp: ''}", `timeouts.udp: "" is not a duration from 1ms to 168h: write it as in 2m`},
		{"timeouts: {other: 169h}", `timeouts.other: "169h" is not a duration from 1ms to 168h: write it as in 2m`},
		{"timeouts: {other: 0s}\nallowShortTimeouts: true", `timeouts.other: "0s" is not a duration from 1ms to 168h: write it as in 2m`},
		{"timeouts: {tcpEstablished: 2h}", "timeouts.tcpEstablished: 2h is below the 2h4m that RFC 5382 REQ-5 demands: raise it, or write allowShortTimeouts: true"},
		{"timeouts: {tcpTransitory: 239s}", "timeouts.tcpTransitory: 239s is below the 4m that RFC 5382 REQ-5 demands: raise it, or write allowShortTimeouts: true"},
		{"timeouts: {udp: 1m59s}", "timeouts.udp: 1m59s is below the 2m that RFC 4787 REQ-5 demands: raise it, or write allowShortTimeouts: true"},
		{"timeouts: {icmp: 59s}", "timeouts.icmp: 59s is below the 1m that RFC 5508 REQ-2 demands: raise it, or write allowShortTimeouts: true"},
		{"redirects: redirects.yaml", `redirects: "redirects.yaml" is not an absolute path: start it with /`},
		{"dnsDeadline: 200", `dnsDeadline: 200 is not a string: write "200", in quotes`},
		{"dnsDeadline: 0s", `dnsDeadline: "0s" is not a duration from 1ms to 5s: write it as in 5s`},
		{"dnsDeadline: 6s", `dnsDeadline: "6s" is not a duration from 1ms to 5s: write it as in 5s`},
		{"dnsMaxQueries: 63", "dnsMaxQueries: 63 is out of range: choose 64 to 65536"},
		{"dnsMaxQueriesPerEndpoint: 0", "dnsMaxQueriesPerEndpoint: 0 is out of range: choose 1 to 65536"},
		{"dnsMaxQueriesPerEndpoint: 65537", "dnsMaxQueriesPerEndpoint: 65537 is out of range: choose 1 to 65536"},
		{"dnsProbeInterval: often", `dnsProbeInterval: "often" is not a duration from 50ms to 1m: write it as in 1m`},
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
