package kubernetes

import (
	"errors"
	"strconv"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/pkg/upstream"
)

func init() { plugin.Register(pluginName, setup) }

func setup(c *caddy.Controller) error {
	k, err := parse(c)
	if err == nil {
		err = k.load()
	}
	if err != nil {
		return plugin.Error(pluginName, err)
	}
	dnsserver.GetConfig(c).AddPlugin(func(next plugin.Handler) plugin.Handler {
		k.next = next
		return k
	})
	return nil
}

// parse reads the block. What needs an API server is refused.
func parse(c *caddy.Controller) (*Kubernetes, error) {
	k := &Kubernetes{ttl: 5, pods: "disabled", upstream: upstream.New()}
	for i := 0; c.Next(); i++ {
		if i > 0 {
			return nil, plugin.ErrOnce
		}
		k.zones = plugin.OriginsFromArgsOrServerBlock(c.RemainingArgs(), c.ServerBlockKeys)
		for c.NextBlock() {
			if err := k.property(c); err != nil {
				return nil, err
			}
		}
	}
	if k.domain() == "" {
		return nil, errors.New("non-reverse zone name must be used")
	}
	return k, nil
}

func (k *Kubernetes) property(c *caddy.Controller) error {
	property, args := c.Val(), c.RemainingArgs()
	if property == "fallthrough" {
		k.fall.SetZonesFromArgs(args)
		return nil
	}
	if len(args) != 1 {
		return c.ArgErr()
	}
	switch property {
	case "pods":
		if args[0] != "disabled" && args[0] != "insecure" {
			return c.Errf("pods %s: use disabled or insecure", args[0])
		}
		k.pods = args[0]
	case "ttl":
		ttl, err := strconv.Atoi(args[0])
		if err != nil || ttl < 0 || ttl > 3600 {
			return c.Errf("ttl %s: use 0 to 3600", args[0])
		}
		k.ttl = uint32(ttl)
	default:
		return c.Errf("property %s: the services come from a file here, use fallthrough, pods and ttl", property)
	}
	return nil
}
