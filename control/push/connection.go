package push

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "ringway/control/ringwayv1"
)

// Connection is how a follower stands with the controllers.
type Connection struct {
	Connected  bool
	Controller string    // that it is connected to, or tried last
	Since      time.Time // when it connected, or lost the connection; zero before the first
	Err        error     // why it is not connected

	Cluster   string    // empty: not known yet
	Version   uint64    // in force; 0: none
	Confirmed time.Time // when a controller last gave this version, or said that it is the newest it has
	Refused   uint64    // a newer version that the node refused; or 0
	Problems  []*pb.Problem
}

// Connection is that of now.
func (f *Follower) Connection() Connection {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.connection
}

// Client is for other calls to the controller that the node follows.
func (f *Follower) Client() (pb.ControllerServiceClient, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.client == nil {
		return nil, status.Errorf(codes.Unavailable, "no controller is connected: %v", f.connection.Err)
	}
	return f.client, nil
}

// WaitVersion waits until a version, or a newer one, is in force. It fails when the
// node refused it, or when ctx ends.
func (f *Follower) WaitVersion(ctx context.Context, version uint64) error {
	for {
		f.mu.Lock()
		c, moved := f.connection, f.moved
		f.mu.Unlock()
		if c.Version >= version {
			return nil
		}
		if c.Refused >= version {
			return fmt.Errorf("the node refused version %d: %w", c.Refused, problemsError(c.Problems))
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return fmt.Errorf("wait for version %d, %d is in force: %w", version, c.Version, ctx.Err())
		}
	}
}

// update changes what Connection says.
func (f *Follower) update(change func(c *Connection)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(&f.connection)
	close(f.moved)
	f.moved = make(chan struct{})
}

func (f *Follower) connected(controller string, client pb.ControllerServiceClient) {
	f.o.Log.Info("following a controller", "controller", controller, "version", f.have.version)
	f.update(func(c *Connection) {
		c.Connected, c.Controller, c.Since, c.Err = true, controller, f.o.Now(), nil
		f.client = client
	})
}

// disconnected says whether there had been a connection that was good for
// something. The same failure again is not logged again.
func (f *Follower) disconnected(controller string, err error) (lived bool) {
	f.update(func(c *Connection) {
		lived = c.Connected && (c.Confirmed.After(c.Since) || f.o.Now().Sub(c.Since) > f.o.MaxBackoff)
		if c.Connected || c.Since.IsZero() {
			c.Since = f.o.Now()
		}
		if err != nil && (c.Err == nil || c.Err.Error() != err.Error()) {
			f.o.Log.Warn("not following a controller", "controller", controller, "err", err)
		}
		c.Connected, c.Controller, c.Err = false, controller, err
		f.client = nil
	})
	return lived
}
