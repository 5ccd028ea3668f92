package lab

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// SetMasquerade puts a masquerade section in force on a host's agent, in place
// of the one there was. Without one (nil) nothing is masqueraded.
func (l *Lab) SetMasquerade(ctx context.Context, host string, section map[string]any) error {
	return l.Update(ctx, host, func(tables map[string]any) {
		delete(tables, "masquerade")
		if section != nil {
			tables["masquerade"] = section
		}
	})
}

// WaitNotMasqueraded waits until a host's agent lists a rule that keeps what goes
// to a prefix from being masqueraded, whichever source it comes from.
func (l *Lab) WaitNotMasqueraded(ctx context.Context, host string, to netip.Prefix) error {
	client, err := l.Agent(host)
	if err != nil {
		return err
	}
	defer client.Close()
	for {
		rules, err := client.Masquerade(ctx)
		if err != nil {
			return fmt.Errorf("wait for the masquerade rules of %s: %w", host, err)
		}
		for _, r := range rules.GetItems() {
			if r.GetAction() == "none" && slices.Contains(r.GetDestinations(), to.String()) {
				return nil
			}
		}
		if err := pause(ctx); err != nil {
			return fmt.Errorf("agent of %s: no rule keeps %s from being masqueraded: %w", host, to, err)
		}
	}
}

// WaitRoute waits until a host's agent has a route to a prefix by a port.
func (l *Lab) WaitRoute(ctx context.Context, host string, to netip.Prefix, port string) error {
	client, err := l.Agent(host)
	if err != nil {
		return err
	}
	defer client.Close()
	for {
		routes, err := client.Routes(ctx)
		if err != nil {
			return fmt.Errorf("wait for the routes of %s: %w", host, err)
		}
		for _, r := range routes.GetItems() {
			if r.GetPrefix() == to.String() && r.GetPort() == port {
				return nil
			}
		}
		if err := pause(ctx); err != nil {
			return fmt.Errorf("agent of %s: no route to %s by %s: %w", host, to, port, err)
		}
	}
}

// pause is between two questions to an agent.
func pause(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(5 * time.Millisecond):
		return nil
	}
}
