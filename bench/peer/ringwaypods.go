package peer

import (
	"context"
	"fmt"
	"os"
	"time"

	"ringway/bench/chain"
	"ringway/control"
	"ringway/control/ringwayv1"
)

const (
	// maxQueries lets the client's quota not bound what the generator bounds already: a
	// query that got lost counts for seconds.
	maxQueries = 4096
	// deadline is so long that a cache whose CPU was taken away for a moment, on a
	// shared machine, is not put into quarantine.
	deadline = "5s"
)

func service() map[string]any {
	return map[string]any{
		"namespace": "kube-system", "name": "kube-dns", "address": chain.Service.String(),
		"ports":    []any{map[string]any{"name": "dns", "protocol": "UDP", "port": chain.DNSPort}},
		"backends": []string{chain.ServiceBackend.String()},
	}
}

func redirect() map[string]any {
	return map[string]any{
		"namespace": "kube-system", "name": "nodelocaldns",
		"redirectFrontend": map[string]any{
			"serviceMatcher": map[string]any{"serviceName": "kube-dns", "namespace": "kube-system"},
		},
		"redirectBackend": map[string]any{
			"localEndpointSelector": map[string]any{"matchLabels": chain.CacheLabel},
			"toPorts":               []any{map[string]any{"name": "dns", "protocol": "UDP", "port": chain.DNSPort}},
		},
	}
}

// AttachPod asks the agent for an endpoint.
func (r *Ringway) AttachPod(ctx context.Context, p chain.Pod) (device string, err error) {
	client, err := control.NewClient(r.socket)
	if err != nil {
		return "", err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, agentStart)
	defer cancel()
	e, err := client.AddEndpoint(ctx, &ringwayv1.AddEndpointRequest{
		Name: p.Name, Address: p.Addr.String(), Labels: p.Labels, Ifname: chain.PodDevice,
		Netns: fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), p.NS.FD()),
	})
	if err != nil {
		return "", err
	}
	return e.GetDevice(), nil
}

// RedirectDNS waits until the agent says that the redirect is in force.
func (r *Ringway) RedirectDNS(ctx context.Context) error {
	client, err := control.NewClient(r.socket)
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, agentStart)
	defer cancel()
	for {
		state, err := redirectState(ctx, client)
		if err != nil {
			return err
		}
		if state == "active" {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the redirect has no effect after %s: %s", agentStart, state)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// redirectState is the state of the only redirect.
func redirectState(ctx context.Context, client *control.Client) (string, error) {
	all, err := client.Redirects(ctx)
	if err != nil {
		return "", fmt.Errorf("ask the agent for its redirects: %w", err)
	}
	for _, r := range all.GetItems() {
		return r.GetState(), nil
	}
	return "there is none", nil
}
