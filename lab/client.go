package lab

import (
	"context"
	"fmt"
	"time"

	"ringway/control"
	"ringway/control/ringwayv1"
)

// Agent is a client of a host's agent. The caller closes it.
func (l *Lab) Agent(host string) (*control.Client, error) {
	if err := l.CheckAgent(host); err != nil {
		return nil, err
	}
	return control.NewClient(l.Socket(host))
}

// AgentStatus asks a host's agent how it is.
func (l *Lab) AgentStatus(ctx context.Context, host string) (*ringwayv1.Status, error) {
	client, err := l.Agent(host)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	s, err := client.Status(ctx)
	if err != nil {
		return nil, fmt.Errorf("ask the agent of %s for its status: %w", host, err)
	}
	return s, nil
}

// WaitTables waits until a host's agent has table set version in force; with a
// controller, that or a later one.
func (l *Lab) WaitTables(ctx context.Context, host string, version uint64) error {
	client, err := l.Agent(host)
	if err != nil {
		return err
	}
	defer client.Close()
	for {
		s, err := client.Status(ctx)
		if err != nil {
			return fmt.Errorf("wait for the tables of %s: %w", host, err)
		}
		tables := s.GetTables()
		if tables.GetVersion() == version || l.HasControl() && tables.GetVersion() > version {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("agent of %s: tables version %d is in force, not %d: %w (refused last: %q)", host,
				tables.GetVersion(), version, ctx.Err(), tables.GetError())
		case <-time.After(5 * time.Millisecond):
		}
	}
}
