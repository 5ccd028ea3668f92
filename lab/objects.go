package lab

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"ringway/control"
	"ringway/control/ringwayv1"
)

// Objects is a client of a controller, on its unix socket. The caller closes it.
func (l *Lab) Objects(controller string) (*control.ObjectClient, error) {
	if !slices.Contains(l.Controllers(), controller) {
		return nil, fmt.Errorf("host %q has no controller: use one of %s", controller, strings.Join(l.Controllers(), ", "))
	}
	return control.NewObjectClient("unix://"+l.Socket(controller), control.TLSFiles{})
}

// ApplyObjects makes or replaces objects, given as YAML or JSON, one in each
// document, through the first controller that runs, and waits until all agents that
// run have them in force.
func (l *Lab) ApplyObjects(ctx context.Context, documents ...string) error {
	version, err := l.offerObjects(ctx, documents...)
	if err != nil {
		return err
	}
	return l.waitEverywhere(ctx, version)
}

// offerObjects is ApplyObjects without waiting. The version is the first one that
// has them.
func (l *Lab) offerObjects(ctx context.Context, documents ...string) (version uint64, err error) {
	return l.throughController(func(c *control.ObjectClient) (uint64, error) {
		r, err := c.Apply(ctx, documents)
		return r.GetVersion(), err
	})
}

// DeleteObjects takes objects away, and waits as ApplyObjects does. That there is
// none is no error.
func (l *Lab) DeleteObjects(ctx context.Context, keys ...*ringwayv1.ObjectKey) error {
	version, err := l.throughController(func(c *control.ObjectClient) (uint64, error) {
		r, err := c.Delete(ctx, keys)
		return r.GetVersion(), err
	})
	if err != nil {
		return err
	}
	return l.waitEverywhere(ctx, version)
}

// waitEverywhere waits until all agents that run have a version in force.
func (l *Lab) waitEverywhere(ctx context.Context, version uint64) error {
	for _, host := range l.Agents() {
		if pid, err := l.Pid(host); err != nil || pid == 0 {
			continue // it gets them when it is back
		}
		if err := l.WaitTables(ctx, host, version); err != nil {
			return err
		}
	}
	return nil
}

// throughController has a change made by a controller that runs.
func (l *Lab) throughController(change func(*control.ObjectClient) (uint64, error)) (version uint64, err error) {
	for _, name := range l.Controllers() {
		if pid, err := l.Pid(name); err != nil || pid == 0 {
			continue
		}
		c, err := l.Objects(name)
		if err != nil {
			return 0, err
		}
		defer c.Close()
		if version, err = change(c); err != nil {
			return 0, fmt.Errorf("change objects on %s: %w", name, err)
		}
		return version, nil
	}
	return 0, errors.New("no controller runs: start one (ringway lab start ctrl1)")
}
