package main

import (
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	pb "ringway/control/ringwayv1"
)

// newEndpointCommand is ringway endpoint.
func newEndpointCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "endpoint",
		Short: "Attach and detach pods",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return usagef("endpoint needs add or del: see ringway endpoint -h")
		},
	}
	c.AddCommand(newEndpointAddCommand(), newEndpointDelCommand())
	return c
}

func newEndpointAddCommand() *cobra.Command {
	var to target
	var as output
	var netns, ip, ifname string
	var labels, ports []string
	c := &cobra.Command{
		Use:   "add [NAMESPACE/]NAME --netns PATH|NAME [--ip ADDRESS]",
		Short: "Attach the network namespace of a pod",
		Long:  "Attach the network namespace of a pod. Where it is attached already in the same way, nothing happens.",
		Args:  cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if err := as.check(); err != nil {
				return err
			}
			request, err := addRequest(args[0], netns, ip, ifname, labels)
			if err != nil {
				return err
			}
			request.Ports = ports
			client, err := to.client()
			if err != nil {
				return err
			}
			defer client.Close()
			e, err := client.AddEndpoint(c.Context(), request)
			if err != nil {
				return err
			}
			return as.write(c.OutOrStdout(), e, func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "endpoint %s has %s on %s in %s\n", e.GetName(), e.GetAddress(), e.GetIfname(), e.GetNetns())
				return err
			})
		},
	}
	c.Flags().StringVar(&netns, "netns", "", "the pod's network namespace: a path, or a name under /run/netns (required)")
	c.Flags().StringVar(&ip, "ip", "", "IPv4 address inside a node CIDR of the node; when left out, one that is free")
	c.Flags().StringVar(&ifname, "ifname", "eth0", "the interface to make inside the pod")
	c.Flags().StringArrayVar(&labels, "label", nil, "k=v; may be repeated")
	c.Flags().StringArrayVar(&ports, "port", nil, "a port that policies may name, as in http=80/TCP; may be repeated")
	to.flags(c)
	as.flag(c)
	return c
}

func addRequest(name, netns, ip, ifname string, labels []string) (*pb.AddEndpointRequest, error) {
	if netns == "" {
		return nil, usagef("--netns is missing: give a path, or a name under /run/netns")
	}
	// A path is the caller's, whose working directory the agent does not share.
	if strings.Contains(netns, "/") {
		abs, err := filepath.Abs(netns)
		if err != nil {
			return nil, fmt.Errorf("--netns %s: %w", netns, err)
		}
		netns = abs
	}
	r := &pb.AddEndpointRequest{Name: name, Netns: netns, Address: ip, Ifname: ifname, Labels: map[string]string{}}
	for _, l := range labels {
		k, v, ok := strings.Cut(l, "=")
		if !ok || k == "" {
			return nil, usagef("--label %q is not k=v: write it as in app=web", l)
		}
		r.Labels[k] = v
	}
	return r, nil
}

func newEndpointDelCommand() *cobra.Command {
	var to target
	c := &cobra.Command{
		Use:   "del NAME",
		Short: "Detach a pod; that there is none of the name is no error",
		Args:  cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			client, err := to.client()
			if err != nil {
				return err
			}
			defer client.Close()
			return client.DeleteEndpoint(c.Context(), args[0])
		},
	}
	to.flags(c)
	return c
}
