package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"ringway/control/ringwayv1"
)

// The two forms of the redirect to the node-local cache: to pods with the cache's
// label, as the original document has it, and to HostCache.
const (
	PodRedirect  = "node-local-dns-lrp.yaml"
	HostRedirect = "node-local-dns-host-lrp.yaml"
)

// redirectName is what both are called: of the two only one can be in force.
const redirectName = dnsNamespace + "/nodelocaldns"

// RedirectsFile is the path of the manifests that a host's agent follows.
func (l *Lab) RedirectsFile(host string) string { return l.hostFile(host, "redirects.yaml") }

// SetRedirects puts manifests of redirects in place of those that a host's agent
// follows; "": none.
func (l *Lab) SetRedirects(host, manifests string) error {
	if manifests != "" {
		return writeFile(l.RedirectsFile(host), []byte(manifests))
	}
	if err := os.Remove(l.RedirectsFile(host)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("take the redirects of %s away: %w", host, err)
	}
	return nil
}

// RedirectDNS puts a form of the redirect to the cache into force, on node1 or,
// where there is a controller, everywhere; "": none. It waits until that is so on
// node1.
func (l *Lab) RedirectDNS(ctx context.Context, form string) error {
	manifest := ""
	if form != "" {
		var err error
		if manifest, err = dnsFile(form); err != nil {
			return err
		}
	}
	if err := l.publishRedirect(ctx, manifest); err != nil {
		return err
	}
	return l.WaitRedirect(ctx, cacheNode, func(r *ringwayv1.RedirectStatus) bool {
		if form == "" {
			return r == nil
		}
		cache := l.Address(cachePod)
		if form == HostRedirect {
			cache = HostCache.Addr()
		}
		return r.GetState() == "active" && r.GetBackends()[0].GetAddress() == cache.String()
	})
}

// publishRedirect gives the redirect to whom agents have their tables from; "": takes
// it away.
func (l *Lab) publishRedirect(ctx context.Context, manifest string) error {
	switch {
	case !l.HasControl():
		return l.SetRedirects(cacheNode, manifest)
	case manifest != "":
		return l.ApplyObjects(ctx, manifest)
	}
	namespace, name, _ := strings.Cut(redirectName, "/")
	return l.DeleteObjects(ctx, &ringwayv1.ObjectKey{Kind: "CiliumLocalRedirectPolicy", Namespace: namespace, Name: name})
}

// WaitRedirect waits until the redirect to the cache on a host is as told; nil:
// there is none.
func (l *Lab) WaitRedirect(ctx context.Context, host string, holds func(*ringwayv1.RedirectStatus) bool) error {
	client, err := l.Agent(host)
	if err != nil {
		return err
	}
	defer client.Close()
	for {
		all, err := client.Redirects(ctx)
		if err != nil {
			return fmt.Errorf("wait for the redirect of %s: %w", host, err)
		}
		r := findRedirect(all.GetItems())
		if holds(r) {
			return nil
		}
		if err := pause(ctx); err != nil {
			return fmt.Errorf("agent of %s: the redirect is %v: %w", host, r, err)
		}
	}
}

func findRedirect(all []*ringwayv1.RedirectStatus) *ringwayv1.RedirectStatus {
	for _, r := range all {
		if r.GetNamespace()+"/"+r.GetName() == redirectName {
			return r
		}
	}
	return nil
}

// Redirect is the redirect to the cache as a host's agent has it; nil: it has none.
func (l *Lab) Redirect(ctx context.Context, host string) (*ringwayv1.RedirectStatus, error) {
	client, err := l.Agent(host)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	all, err := client.Redirects(ctx)
	if err != nil {
		return nil, fmt.Errorf("ask the agent of %s for its redirects: %w", host, err)
	}
	return findRedirect(all.GetItems()), nil
}
