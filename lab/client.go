package lab

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"ringway/control/ringwayv1"
)

// Agent is a client of a host's agent. The caller closes the connection.
func (l *Lab) Agent(host string) (ringwayv1.AgentServiceClient, *grpc.ClientConn, error) {
	if err := l.CheckAgent(host); err != nil {
		return nil, nil, err
	}
	conn, err := grpc.NewClient("unix:"+l.Socket(host), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, nil, fmt.Errorf("reach the agent of %s: %w", host, err)
	}
	return ringwayv1.NewAgentServiceClient(conn), conn, nil
}

// AgentStatus asks a host's agent how it is.
func (l *Lab) AgentStatus(ctx context.Context, host string) (*ringwayv1.Status, error) {
	client, conn, err := l.Agent(host)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	answer, err := client.GetStatus(ctx, &ringwayv1.GetStatusRequest{})
	if err != nil {
		return nil, fmt.Errorf("ask the agent of %s for its status: %w", host, err)
	}
	return answer.GetStatus(), nil
}

// WaitTables waits until a host's agent has table set version in force.
func (l *Lab) WaitTables(ctx context.Context, host string, version uint64) error {
	for {
		s, err := l.AgentStatus(ctx, host)
		if err != nil {
			return err
		}
		if s.GetTables().GetVersion() == version {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("agent of %s: tables version %d is in force, not %d (%s)", host,
				s.GetTables().GetVersion(), version, s.GetTables().GetError())
		case <-time.After(5 * time.Millisecond):
		}
	}
}
