// Command coredns is CoreDNS as the lab runs it: as cluster DNS, as node-local
// cache and as the authoritative server outside. It has the plugins that the
// Corefiles of CoreDNS' and of NodeLocalDNS' manifests name, so that those are
// used as they are. One of them, kubernetes, is not CoreDNS' own: it answers from
// a file of Service objects, since the lab has no API server.
package main

import (
	_ "github.com/coredns/coredns/plugin/bind"
	_ "github.com/coredns/coredns/plugin/cache"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/file"
	_ "github.com/coredns/coredns/plugin/forward"
	_ "github.com/coredns/coredns/plugin/health"
	_ "github.com/coredns/coredns/plugin/loadbalance"
	_ "github.com/coredns/coredns/plugin/log"
	_ "github.com/coredns/coredns/plugin/loop"
	_ "github.com/coredns/coredns/plugin/metrics" // prometheus
	_ "github.com/coredns/coredns/plugin/ready"
	_ "github.com/coredns/coredns/plugin/reload"

	_ "ringway/tools/coredns/kubernetes"

	"github.com/coredns/coredns/coremain"
)

func main() { coremain.Run() }
