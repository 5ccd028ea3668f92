package control

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"google.golang.org/grpc/codes"
	grpcstatus "google.golang.org/grpc/status"

	pb "ringway/control/ringwayv1"
	"ringway/dataplane"
)

const (
	// inForceTimeout is how long adding an endpoint waits for the set that has its
	// identity.
	inForceTimeout = 5 * time.Second
	// registerTimeout bounds one call about an endpoint.
	registerTimeout = 10 * time.Second
)

// add registers an endpoint, so that it has an address and an identity, and
// attaches it. What is attached already in the same way needs no controller.
func (m *member) add(ctx context.Context, r dataplane.EndpointRequest) (dataplane.EndpointStatus, error) {
	defer m.names.lock(r.Name)()
	old, attached := m.attached(r.Name)
	if attached && !r.Address.IsValid() {
		r.Address = old.Address
	}
	client, err := m.follower.Client()
	if err != nil && attached && sameToOthers(old, r) {
		return m.engine.AddEndpoint(ctx, r)
	}
	if err != nil {
		return dataplane.EndpointStatus{}, m.away(err)
	}
	version, err := m.register(ctx, client, &r)
	if err != nil {
		return dataplane.EndpointStatus{}, err
	}
	waitErr := m.waitInForce(ctx, version)
	e, err := m.engine.AddEndpoint(ctx, r)
	if err != nil {
		if !attached {
			m.lookAgain() // it is registered and not attached
		}
		return e, errors.Join(err, waitErr)
	}
	if waitErr != nil {
		return e, fmt.Errorf("it is attached, but sends and gets nothing until its identity is known here: %w", waitErr)
	}
	return e, nil
}

// sameToOthers tells whether what others know of an endpoint stays as it is.
func sameToOthers(e dataplane.EndpointStatus, r dataplane.EndpointRequest) bool {
	return e.Address == r.Address && maps.Equal(e.Labels, r.Labels) && slices.Equal(e.Ports, r.Ports)
}

func (m *member) attached(name string) (dataplane.EndpointStatus, bool) {
	all := m.engine.Endpoints()
	i := slices.IndexFunc(all, func(e dataplane.EndpointStatus) bool { return e.Name == name })
	if i < 0 {
		return dataplane.EndpointStatus{}, false
	}
	return all[i], true
}

// away is why nothing new can be attached now.
func (m *member) away(err error) error {
	return fmt.Errorf("no controller is connected, and one has to give new endpoints their address and identity: %s: see ringway status", errorText(err))
}

// register fills in the address, and returns the first version that has the
// identity.
func (m *member) register(ctx context.Context, client pb.ControllerServiceClient, r *dataplane.EndpointRequest) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, registerTimeout)
	defer cancel()
	answer, err := client.RegisterEndpoint(ctx, &pb.RegisterEndpointRequest{
		Name: r.Name, Address: addr(r.Address), Labels: r.Labels, Ports: portMessages(r.Ports),
	})
	if err != nil {
		return 0, m.refusedBy(err)
	}
	if r.Address, err = netip.ParseAddr(answer.GetAddress()); err != nil {
		return 0, fmt.Errorf("the controller gave %q as the address: %w", answer.GetAddress(), err)
	}
	return answer.GetVersion(), nil
}

// refusedBy is a controller's answer as its reader knows it.
func (m *member) refusedBy(err error) error {
	st := grpcstatus.Convert(err)
	for _, d := range st.Details() {
		if refused, ok := d.(*pb.Refusal); ok {
			return problemsOf(refused)
		}
	}
	if st.Code() == codes.Unavailable {
		return m.away(err)
	}
	return fmt.Errorf("controller %s: %s", m.follower.Connection().Controller, st.Message())
}

func (m *member) waitInForce(ctx context.Context, version uint64) error {
	ctx, cancel := context.WithTimeout(ctx, inForceTimeout)
	defer cancel()
	return m.follower.WaitVersion(ctx, version)
}

// remove detaches an endpoint and has the controller forget it, as soon as there is
// one: until then nobody else gets its address.
func (m *member) remove(ctx context.Context, name string) error {
	defer m.names.lock(name)()
	if err := m.engine.DeleteEndpoint(ctx, name); err != nil {
		return err
	}
	client, err := m.follower.Client()
	if err == nil {
		err = m.unregister(ctx, client, name)
	}
	if err != nil {
		m.log.Info("an endpoint is detached, and unregistered once a controller is connected", "name", name, "err", errorText(err))
		m.lookAgain()
	}
	return nil
}

func (m *member) unregister(ctx context.Context, client pb.ControllerServiceClient, name string) error {
	ctx, cancel := context.WithTimeout(ctx, registerTimeout)
	defer cancel()
	_, err := client.UnregisterEndpoint(ctx, &pb.UnregisterEndpointRequest{Name: name})
	return err
}
