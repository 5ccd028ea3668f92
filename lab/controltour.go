package lab

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"ringway/control/ringwayv1"
)

// controlSteps show what a controller does.
var controlSteps = []step{
	{"control: the nodes have joined by certificate, and have the same set in force", (*tour).joined},
	{"control: a pod without an address gets one, and others know who it is", (*tour).newPod},
	{"control: a NetworkPolicy cuts what lives, and lets it go on when it goes", (*tour).policyCuts},
	{"control: the controller is killed, and nobody notices", (*tour).controllerKilled},
}

// shownLines notes what a ringway command prints.
func (t *tour) shownLines(host string, args ...string) (string, error) {
	out, err := t.Command(host, t.state.Binary, args...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("ringway %s: %w: %s", strings.Join(args, " "), err, lastLine(out))
	}
	t.note("tried    ringway %s", strings.Join(args, " "))
	for line := range strings.Lines(string(out)) {
		t.note("saw      %s", strings.TrimRight(line, "\n"))
	}
	return string(out), nil
}

func (t *tour) joined() error {
	controller := t.Controllers()[0]
	if _, err := t.shownLines(controller, "get", "nodes", "--controller", t.Socket(controller)); err != nil {
		return err
	}
	c, err := t.Objects(controller)
	if err != nil {
		return err
	}
	defer c.Close()
	states, err := c.NodeStates(t.ctx)
	if err != nil {
		return err
	}
	var connected []string
	for _, s := range states {
		if s.GetConnected() && s.GetRefused() == 0 {
			connected = append(connected, s.GetName())
		}
	}
	if !slices.Equal(connected, t.Agents()) {
		return fmt.Errorf("%v are connected, want %v", connected, t.Agents())
	}
	return nil
}

func (t *tour) newPod() error {
	const name = "podnew"
	if err := t.StartPod(Pod{Name: name, Node: "node2", Labels: map[string]string{"app": name}}); err != nil {
		return err
	}
	t.note("tried    ringway endpoint add %s, without an address: it has %s", name, t.Address(name))
	return errors.Join(t.path("pod1", name, true), t.DelPod(name))
}

// tourPolicy keeps everybody from pod2.
const tourPolicy = `apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: pod2-alone, namespace: default}
spec:
  podSelector: {matchLabels: {app: pod2}}
  policyTypes: [Ingress]
`

func (t *tour) policyCuts() error {
	live, err := t.WatchTCP("pod1", "pod2", t.Address("pod2"), 5*time.Millisecond)
	if err != nil {
		return err
	}
	err = t.applyAndTake(tourPolicy)
	time.Sleep(time.Second) // TCP sends again what was lost
	r := live.Stop()
	t.note("saw      the TCP connection from before: %d echoes, longest stall %s", r.Echoes, r.Stall.Round(time.Millisecond))
	if r.Stall < policyHeld/2 {
		err = errors.Join(err, errors.New("the policy did not cut it"))
	}
	return errors.Join(err, r.Err)
}

// policyHeld is how long the tour's policy is in force.
const policyHeld = 400 * time.Millisecond

func (t *tour) applyAndTake(policy string) error {
	start := time.Now()
	if err := t.ApplyObjects(t.ctx, policy); err != nil {
		return err
	}
	for line := range strings.Lines(policy) {
		t.note("applied  %s", strings.TrimRight(line, "\n"))
	}
	t.note("saw      in force at all nodes after %s", time.Since(start).Round(time.Millisecond))
	_, pinged := t.Ping("pod1", Probe{To: t.Address("pod2"), Timeout: policyHeld})
	t.note("tried    ping pod2 from pod1: %v", pinged)
	err := t.DeleteObjects(t.ctx, &ringwayv1.ObjectKey{Kind: "NetworkPolicy", Namespace: "default", Name: "pod2-alone"})
	if !errors.Is(pinged, ErrNoAnswer) {
		err = errors.Join(err, errors.New("pod1 reaches pod2 past the policy"))
	}
	if err != nil {
		return err
	}
	a, err := t.Ping("pod1", Probe{To: t.Address("pod2")})
	t.note("tried    ping pod2 from pod1 without the policy: %v %v", a, err)
	return err
}

func (t *tour) controllerKilled() error {
	flow, err := t.StartFlow("pod1", "pod4", t.Address("pod4"), 2*time.Millisecond)
	if err != nil {
		return err
	}
	err = t.withoutController()
	r, stopped := flow.Stop()
	t.note("saw      UDP from pod1 to pod4: %d sent, %d lost", r.Sent, r.Lost)
	if r.Lost > 0 {
		err = errors.Join(err, fmt.Errorf("%d datagrams are lost", r.Lost))
	}
	return errors.Join(err, stopped)
}

// withoutController kills all controllers, starts the agent of node2 anew, and then
// the controllers.
func (t *tour) withoutController() error {
	for _, name := range t.Controllers() {
		if err := t.Kill(name); err != nil {
			return err
		}
		t.note("tried    kill -9 of the controller of %s", name)
	}
	err := errors.Join(t.Kill("node2"), t.Start("node2"))
	if err == nil {
		_, err = t.WaitReachable("pod1", t.Address("pod2"), 5*time.Second)
		t.note("tried    node2's agent is killed and started without a controller; pod1 reaches pod2: %v", err == nil)
	}
	for _, name := range t.Controllers() {
		err = errors.Join(err, t.Start(name))
	}
	if err != nil {
		return err
	}
	start := time.Now()
	// A change shows that everybody is back.
	if err := t.ApplyObjects(t.ctx, tourPolicy); err != nil {
		return err
	}
	t.note("saw      %s after the start of the controllers all nodes have what was changed then", time.Since(start).Round(time.Millisecond))
	return t.DeleteObjects(t.ctx, &ringwayv1.ObjectKey{Kind: "NetworkPolicy", Namespace: "default", Name: "pod2-alone"})
}
