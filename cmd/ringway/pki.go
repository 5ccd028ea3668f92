package main

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/spf13/cobra"

	"ringway/control/pki"
)

func newPKICommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "pki",
		Short: "Make the certificates of a lab or a small site",
		Args:  cobra.NoArgs,
	}
	c.AddCommand(newPKIInitCommand(), newPKIIssueCommand())
	return c
}

func newPKIInitCommand() *cobra.Command {
	var dir, domain string
	var ttl time.Duration
	c := &cobra.Command{
		Use:   "init --dir DIR --trust-domain DOMAIN",
		Short: "Make a CA; one that is there stays",
		Long: `Make a CA for a trust domain: ca.crt, which everybody gets, and ca.key, which
nobody gets: whoever has it can be anybody in the cluster.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if dir == "" {
				return usagef("--dir is missing: name a directory for the CA")
			}
			if domain == "" {
				return usagef("--trust-domain is missing: name the cluster, as in ringway.example")
			}
			if err := pki.InitCA(dir, domain, ttl); err != nil {
				return err
			}
			fmt.Fprintf(c.OutOrStdout(), "a CA for %s is in %s\n", domain, dir)
			return nil
		},
	}
	c.Flags().StringVar(&dir, "dir", "", "directory of the CA (required)")
	c.Flags().StringVar(&domain, "trust-domain", "", "the cluster's name, written like a host name (required)")
	c.Flags().DurationVar(&ttl, "ttl", pki.DefaultCATTL, "how long the CA is valid")
	return c
}

func newPKIIssueCommand() *cobra.Command {
	var dir, out string
	var ttl time.Duration
	var ips, names []string
	c := &cobra.Command{
		Use:   "issue --dir DIR --out DIR ROLE NAME",
		Short: "Make a key and a certificate; what is in --out is replaced",
		Long: `Make a key and a certificate, and write tls.key, tls.crt and ca.crt to --out.
ROLE is node, controller, operator, viewer or etcd. A running agent or
controller takes up what it finds in its files without a restart.`,
		Args: cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			if dir == "" {
				return usagef("--dir is missing: name the directory of the CA")
			}
			if out == "" {
				return usagef("--out is missing: name a directory for the certificate")
			}
			request := pki.Request{Role: pki.Role(args[0]), Name: args[1], TTL: ttl, DNS: names}
			for _, s := range ips {
				a, err := netip.ParseAddr(s)
				if err != nil {
					return usagef("--ip %q is no address: write it as in 192.168.0.10", s)
				}
				request.Addresses = append(request.Addresses, a)
			}
			made, err := pki.Issue(dir, out, request)
			if err != nil {
				return err
			}
			fmt.Fprintf(c.OutOrStdout(), "%s has serial %s until %s in %s\n", made.Identity, made.Serial, made.NotAfter.Format(time.RFC3339), out)
			return nil
		},
	}
	c.Flags().StringVar(&dir, "dir", "", "directory of the CA (required)")
	c.Flags().StringVar(&out, "out", "", "directory for the certificate (required)")
	c.Flags().DurationVar(&ttl, "ttl", pki.DefaultTTL, "how long the certificate is valid")
	c.Flags().StringArrayVar(&ips, "ip", nil, "address of a server; may be repeated; members of etcd need one, or --dns")
	c.Flags().StringArrayVar(&names, "dns", nil, "host name of a server; may be repeated")
	return c
}
