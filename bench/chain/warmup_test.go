package chain

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"ringway/internal/netnstest"
)

// router is a kernel that forwards, but for what comes from some addresses.
type router struct{ not []netip.Prefix }

func (*router) Name() string            { return "router" }
func (*router) Output(t Traffic) Expect { return t.Routed() }
func (*router) Stop() error             { return nil }
func (r *router) Start(_ context.Context, env Env) error {
	err := env.NS.Do(func() error {
		for _, p := range r.not {
			rule := netlink.NewRule()
			rule.Src, rule.Type = IPNet(p), unix.FR_ACT_BLACKHOLE
			if err := netlink.RuleAdd(rule); err != nil {
				return fmt.Errorf("drop what comes from %s: %w", p, err)
			}
		}
		return nil
	})
	return errors.Join(err, env.SetForwarding(true))
}

func measureRouter(t *testing.T, r *router) (*Chain, error) {
	t.Helper()
	netnstest.Root(t)
	layout, err := NewLayout(OneCore)
	if err != nil {
		t.Fatal(err)
	}
	c, err := New(t.Context(), r, Traffic{Row: Forward, Size: 64, Flows: 1024}, layout)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	_, err = c.Measure(t.Context(), 100*time.Millisecond)
	return c, err
}

func TestEveryFlowIsSeenBeforeARateIsMeasured(t *testing.T) {
	// One of 1024 may be missing.
	for _, not := range [][]netip.Prefix{nil, {netip.MustParsePrefix("10.99.1.7/32")}} {
		c, err := measureRouter(t, &router{not})
		if err != nil {
			t.Errorf("without %v: %v", not, err)
			continue
		}
		if seen, err := c.sink.Flows(); err != nil || seen < 1023 {
			t.Errorf("without %v: %d flows seen, %v", not, seen, err)
		}
	}
}

func TestNoFigureWhereFlowsDoNotComeThrough(t *testing.T) {
	before := warmPatience
	warmPatience = time.Second
	t.Cleanup(func() { warmPatience = before })
	_, err := measureRouter(t, &router{[]netip.Prefix{netip.MustParsePrefix("10.99.1.0/24")}})
	if want := "of 1024 flows only 768 came out"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%v; want %q", err, want)
	}
}
