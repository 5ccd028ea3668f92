package store

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"strings"
)

// checkListen refuses a URL at which everybody could change the state.
func checkListen(listen string, files TLSFiles) (*url.URL, error) {
	u, err := url.Parse(listen)
	if err != nil {
		return nil, fmt.Errorf("etcd listen URL: %w", err)
	}
	switch u.Scheme {
	case "unix":
		if u.Host != "" || !filepath.IsAbs(u.Path) {
			return nil, fmt.Errorf("etcd listen URL: %q is not unix:///PATH; give an absolute path", listen)
		}
		return u, nil
	case "http":
		if !isLoopback(u.Host) {
			return nil, fmt.Errorf("etcd listen URL: %q is plain text and not on a loopback address; use https with certificates, or http://127.0.0.1:2379", listen)
		}
	case "https":
		if files.CA == "" || files.Cert == "" || files.Key == "" {
			return nil, fmt.Errorf("etcd listen URL: %q needs a CA, a certificate and a key; issue them by ringway pki issue etcd NAME", listen)
		}
	default:
		return nil, fmt.Errorf("etcd listen URL: %q has scheme %q; use unix, http on a loopback address, or https", listen, u.Scheme)
	}
	return u, checkHostPort(listen, u)
}

func checkHostPort(text string, u *url.URL) error {
	if _, _, err := net.SplitHostPort(u.Host); err != nil {
		return fmt.Errorf("etcd URL: %q is not %s://ADDRESS:PORT: %w", text, u.Scheme, err)
	}
	if u.Path != "" && u.Path != "/" {
		return fmt.Errorf("etcd URL: %q has a path; leave it out", text)
	}
	return nil
}

func isLoopback(hostPort string) bool {
	host, _, err := net.SplitHostPort(hostPort)
	if err != nil {
		return false
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.IsLoopback()
}

// checkEndpoints holds members' URLs to the same rule.
func checkEndpoints(endpoints []string, secured bool) error {
	var errs []error
	for _, endpoint := range endpoints {
		errs = append(errs, checkEndpoint(endpoint, secured))
	}
	return errors.Join(errs...)
}

func checkEndpoint(endpoint string, secured bool) error {
	u, err := url.Parse(endpoint)
	if err != nil {
		return fmt.Errorf("etcd endpoints: %w", err)
	}
	switch {
	case strings.HasPrefix(u.Scheme, "unix"):
		return nil
	case u.Scheme == "https" && !secured:
		return fmt.Errorf("etcd endpoints: %q needs a CA, a certificate and a key; give the controller's for etcd", endpoint)
	case u.Scheme == "http" && !isLoopback(u.Host):
		return fmt.Errorf("etcd endpoints: %q is plain text and not on a loopback address; use https with certificates", endpoint)
	case u.Scheme != "http" && u.Scheme != "https":
		return fmt.Errorf("etcd endpoints: %q is not https://ADDRESS:PORT", endpoint)
	}
	return checkHostPort(endpoint, u)
}
