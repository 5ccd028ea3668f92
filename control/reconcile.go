package control

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	pb "ringway/control/ringwayv1"
	"ringway/dataplane"
)

// How long reconciling rests after it failed, doubled each time.
const (
	minReconcilePause = time.Second
	maxReconcilePause = 30 * time.Second
)

// lookAgain has reconcile compare what is attached with what is registered.
func (m *member) lookAgain() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// reconcile keeps the controller's view of the node's endpoints to what is
// attached, until ctx ends: after each new connection, and after what failed.
func (m *member) reconcile(ctx context.Context) {
	pause := minReconcilePause
	for {
		select {
		case <-ctx.Done():
			return
		case <-m.wake:
		}
		if err := m.reconcileOnce(ctx); err == nil {
			pause = minReconcilePause
			continue
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		pause = min(2*pause, maxReconcilePause)
		m.lookAgain()
	}
}

func (m *member) reconcileOnce(ctx context.Context) error {
	client, err := m.waitClient(ctx)
	if err != nil {
		return err
	}
	listing, cancel := context.WithTimeout(ctx, registerTimeout)
	list, err := client.ListEndpoints(listing, &pb.ListEndpointsRequest{})
	cancel()
	if err != nil {
		m.log.Warn("the endpoints that are registered are not known", "err", errorText(err))
		return err
	}
	registered := map[string]string{} // address by name
	for _, e := range list.GetItems() {
		registered[e.GetName()] = e.GetAddress()
	}
	var failed error
	for _, e := range m.engine.Endpoints() {
		full := fullName(e.Name)
		if registered[full] != e.Address.String() {
			failed = first(failed, m.registerAgain(ctx, client, e))
		}
		delete(registered, full)
	}
	for _, name := range slices.Sorted(maps.Keys(registered)) {
		failed = first(failed, m.unregisterGone(ctx, client, name))
	}
	m.forgetDetached()
	return failed
}

// waitClient waits for the connection whose Join woke us.
func (m *member) waitClient(ctx context.Context) (pb.ControllerServiceClient, error) {
	for end := time.Now().Add(minReconcilePause); ; {
		client, err := m.follower.Client()
		if err == nil || time.Now().After(end) {
			return client, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// registerAgain registers what is attached and not known, with the address that it
// has. Why that does not work shows in the status.
func (m *member) registerAgain(ctx context.Context, client pb.ControllerServiceClient, e dataplane.EndpointStatus) error {
	defer m.names.lock(e.Name)()
	e, attached := m.attached(e.Name)
	if !attached {
		return nil // it has gone meanwhile
	}
	r := dataplane.EndpointRequest{Name: e.Name, Address: e.Address, Labels: e.Labels, Ports: e.Ports}
	_, err := m.register(ctx, client, &r)
	m.mu.Lock()
	defer m.mu.Unlock()
	if err == nil {
		delete(m.unknown, e.Name)
		m.log.Info("an endpoint is registered again", "name", e.Name, "address", e.Address)
		return nil
	}
	if m.unknown == nil {
		m.unknown = map[string]string{}
	}
	if m.unknown[e.Name] != err.Error() {
		m.log.Error("an endpoint is attached, but the controller does not take it", "name", e.Name, "err", err)
	}
	m.unknown[e.Name] = err.Error()
	return err
}

// unregisterGone takes away what is registered, as NAMESPACE/NAME, and not
// attached.
func (m *member) unregisterGone(ctx context.Context, client pb.ControllerServiceClient, full string) error {
	// The names that an endpoint of this registration may have here.
	short := strings.TrimPrefix(full, "default/")
	defer m.names.lock(short)()
	if short != full {
		defer m.names.lock(full)()
	}
	if slices.ContainsFunc(m.engine.Endpoints(), func(e dataplane.EndpointStatus) bool { return fullName(e.Name) == full }) {
		return nil // it has come meanwhile
	}
	if err := m.unregister(ctx, client, full); err != nil {
		m.log.Warn("an endpoint that is gone is still registered", "name", full, "err", errorText(err))
		return err
	}
	m.log.Info("an endpoint that is gone is not registered any more", "name", full)
	return nil
}

// forgetDetached drops what was wrong with endpoints that are gone.
func (m *member) forgetDetached() {
	attached := map[string]bool{}
	for _, e := range m.engine.Endpoints() {
		attached[e.Name] = true
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	maps.DeleteFunc(m.unknown, func(name, _ string) bool { return !attached[name] })
}

// reasons are why a node is not as it should be. A controller that is away is none:
// the node goes on with what it has, and the screen says so.
func (m *member) reasons() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []string
	if err := m.source.Err(); err != nil {
		out = append(out, "tls: "+err.Error())
	}
	for _, name := range slices.Sorted(maps.Keys(m.unknown)) {
		out = append(out, fmt.Sprintf("endpoint %s is not registered at the controller: %s", name, m.unknown[name]))
	}
	return out
}

// fullName has the namespace in any case.
func fullName(name string) string {
	if strings.Contains(name, "/") {
		return name
	}
	return "default/" + name
}

func first(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
