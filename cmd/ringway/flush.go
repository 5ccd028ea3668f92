package main

import (
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	pb "ringway/control/ringwayv1"
)

// newFlushCommand is ringway flush.
func newFlushCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "flush",
		Short: "Make the agent forget flows",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return usagef("flush needs flows: see ringway flush -h")
		},
	}
	c.AddCommand(newFlushFlowsCommand())
	return c
}

func newFlushFlowsCommand() *cobra.Command {
	var to target
	var as output
	var filter flowFilter
	var yes bool
	c := &cobra.Command{
		Use:   "flows --yes",
		Short: "Forget flows and free their NAT ports",
		Long: `Forget the flows that the flags select, all without any, and free their NAT ports.
Connections that are alive break where they are masqueraded: their next packet
is a new flow and may get another port. Without --yes nothing happens but that
the flows are counted.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := errors.Join(as.check(), filter.check()); err != nil {
				return err
			}
			client, err := to.client()
			if err != nil {
				return err
			}
			defer client.Close()
			if !yes {
				n := uint64(0)
				count := func(*pb.Flow) error { n++; return nil }
				if err := client.Flows(c.Context(), &filter.FlowFilter, count); err != nil {
					return err
				}
				return usagef("%s would be flushed: add --yes to do it", countFlows(n))
			}
			r, err := client.FlushFlows(c.Context(), &filter.FlowFilter)
			if err != nil {
				return err
			}
			return as.write(c.OutOrStdout(), r, func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "%s flushed\n", countFlows(r.GetFlows()))
				return err
			})
		},
	}
	filter.flags(c)
	c.Flags().BoolVar(&yes, "yes", false, "do it")
	to.flags(c)
	as.flag(c)
	return c
}

func countFlows(n uint64) string {
	if n == 1 {
		return "1 flow"
	}
	return fmt.Sprintf("%d flows", n)
}
