// Package controller is the control plane of a cluster: it keeps what people and
// nodes say in etcd, compiles it, and pushes to every node what it has to know.
package controller

import (
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"ringway/control"
)

// DefaultSocket is where a controller answers unless told otherwise.
const DefaultSocket = "/run/ringway/controller.sock"

// Config is controller.yaml. Its tags are the names and the explanations that
// WriteConfig prints; DefaultConfig holds the defaults.
type Config struct {
	Name             string           `json:"name" doc:"Name of this controller. Empty: the host name."`
	Listen           string           `json:"listen" doc:"Address for agents and for people elsewhere, as in :6650. TLS 1.3, client certificates only. Empty: the unix socket only."`
	TLS              control.TLSFiles `json:"tls" doc:"The controller's certificate (ringway pki issue --dir CA --out DIR controller NAME)."`
	Denylist         string           `json:"denylist" doc:"File of certificates that are no longer to be let in, watched. Empty: none."`
	MaxConnectionAge string           `json:"maxConnectionAge" doc:"After so long a connection is ended and its peer has to show its certificate anew, 1m to 24h."`
	Socket           string           `json:"socket" doc:"Unix socket (mode 0660) on which the controller answers people of this machine."`
	SocketGroup      string           `json:"socketGroup" doc:"Group of the socket, whose members may look. Empty: root's."`
	AdminGroup       string           `json:"adminGroup" doc:"Group whose members may also change things by the socket. Empty: root only."`
	AuditLog         string           `json:"auditLog" doc:"File to which every change and every refused caller is written, one JSON object a line. Empty: the log."`
	DataDir          string           `json:"dataDir" doc:"Where the embedded etcd keeps the cluster's state. Not used with etcdEndpoints."`
	EtcdListen       string           `json:"etcdListen" doc:"Where the embedded etcd answers etcdctl. Loopback only. Empty: nowhere, it is reached from within."`
	EtcdEndpoints    []string         `json:"etcdEndpoints" doc:"URLs of the members of an etcd cluster to use instead of the embedded one, which allows one controller only."`
	EtcdTLS          control.TLSFiles `json:"etcdTLS" doc:"The certificate for these members."`
	Coalesce         string           `json:"coalesce" doc:"How long a change may wait for others that are pushed with it, 0s to 1s."`
	LogLevel         string           `json:"logLevel" doc:"debug, info, warn or error."`
}

// DefaultConfig has every key at its default. It is that of a controller for one
// machine.
func DefaultConfig() Config {
	return Config{
		MaxConnectionAge: "1h",
		Socket:           DefaultSocket,
		DataDir:          "/var/lib/ringway/controller",
		EtcdEndpoints:    []string{},
		Coalesce:         "20ms",
		LogLevel:         "info",
	}
}

// WriteConfig writes c as a controller.yaml in which every key is explained.
func WriteConfig(w io.Writer, c Config) error {
	return control.WriteConfigFile(w, "Configuration of ringway controller. Every key may be left out.", c)
}

// LoadConfig reads controller.yaml. endpoints, where there are any, are used
// instead of the file's etcdEndpoints. What is wrong with its content is
// control.Problems.
func LoadConfig(path string, endpoints []string) (Config, error) {
	doc, err := os.ReadFile(path)
	if err != nil {
		return Config{}, fmt.Errorf("read the configuration: %w", err)
	}
	c := DefaultConfig()
	if err := control.DecodeConfig(doc, &c, "ringway controller --print-config"); err != nil {
		return Config{}, fmt.Errorf("%s: %w", path, err)
	}
	if len(endpoints) > 0 {
		c.EtcdEndpoints = endpoints
	}
	if c.Name == "" {
		if c.Name, err = os.Hostname(); err != nil {
			return Config{}, fmt.Errorf("name is empty and the host name unknown: %w", err)
		}
		c.Name = strings.ToLower(c.Name)
	}
	if err := c.Validate(); err != nil {
		return Config{}, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}

// Validate returns control.Problems, or nil.
func (c Config) Validate() error {
	var ps control.Problems
	ps.Name("name", c.Name)
	c.validateListen(&ps)
	duration(&ps, "maxConnectionAge", c.MaxConnectionAge, time.Minute, 24*time.Hour)
	ps.Socket("socket", c.Socket)
	for _, f := range []struct{ field, path string }{{"denylist", c.Denylist}, {"auditLog", c.AuditLog}} {
		if f.path != "" {
			ps.Path(f.field, f.path)
		}
	}
	c.validateEtcd(&ps)
	duration(&ps, "coalesce", c.Coalesce, 0, time.Second)
	if !slices.Contains([]string{"debug", "info", "warn", "error"}, c.LogLevel) {
		ps.Add("logLevel", fmt.Sprintf("%q is not known", c.LogLevel), "write debug, info, warn or error")
	}
	return ps.Err()
}

func (c Config) validateListen(ps *control.Problems) {
	if c.Listen == "" {
		c.TLS.Check(ps, "tls", false)
		return
	}
	host, port, err := net.SplitHostPort(c.Listen)
	_, portErr := strconv.ParseUint(port, 10, 16)
	if err != nil || portErr != nil || host != "" && net.ParseIP(host) == nil {
		ps.Add("listen", fmt.Sprintf("%q is not [ADDRESS]:PORT", c.Listen), "write it as in :6650 or 192.168.0.10:6650")
	}
	c.TLS.Check(ps, "tls", true)
}

func (c Config) validateEtcd(ps *control.Problems) {
	if len(c.EtcdEndpoints) == 0 {
		ps.Path("dataDir", c.DataDir)
		c.validateEtcdListen(ps)
		if c.EtcdTLS.Given() {
			ps.Add("etcdTLS", "there are no etcdEndpoints to use it for", "leave it out, or name the members")
		}
		return
	}
	secure := false
	for i, e := range c.EtcdEndpoints {
		u, err := url.Parse(e)
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			ps.Add(fmt.Sprintf("etcdEndpoints[%d]", i), fmt.Sprintf("%q is no URL of a member", e), "write it as in https://192.168.0.10:2379")
			continue
		}
		secure = secure || u.Scheme == "https"
		if u.Scheme == "http" && !loopback(u.Hostname()) {
			ps.Add(fmt.Sprintf("etcdEndpoints[%d]", i), fmt.Sprintf("%s would be talked to in plain text", e), "write https and give etcdTLS; http is for loopback only")
		}
	}
	if c.EtcdListen != "" {
		ps.Add("etcdListen", "there is no embedded etcd with etcdEndpoints", "leave one of them out")
	}
	c.EtcdTLS.Check(ps, "etcdTLS", secure)
}

func (c Config) validateEtcdListen(ps *control.Problems) {
	if c.EtcdListen == "" {
		return
	}
	u, err := url.Parse(c.EtcdListen)
	if err != nil || u.Scheme != "http" || u.Port() == "" || !loopback(u.Hostname()) {
		ps.Add("etcdListen", fmt.Sprintf("%q is no URL on loopback", c.EtcdListen), "write it as in http://127.0.0.1:2379: whoever reaches it can change everything")
	}
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func duration(ps *control.Problems, field, s string, low, high time.Duration) {
	if d, err := time.ParseDuration(s); err != nil || d < low || d > high {
		ps.Add(field, fmt.Sprintf("%q is not a duration from %s to %s", s, low, high), "write it as in "+high.String())
	}
}

// Embedded tells whether the controller keeps the state by itself.
func (c Config) Embedded() bool { return len(c.EtcdEndpoints) == 0 }
