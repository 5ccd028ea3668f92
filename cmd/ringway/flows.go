package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/durationpb"

	"ringway/control"
	pb "ringway/control/ringwayv1"
)

// newGetFlowsCommand is ringway get flows.
func newGetFlowsCommand() *cobra.Command {
	var to target
	var as output
	var filter flowFilter
	c := &cobra.Command{
		Use:     "flows",
		Aliases: []string{"flow"},
		Short:   "Flows of the conntrack tables",
		Long: `List the flows of the conntrack tables as they come from the workers. ORIGINAL is
as the first packet came, REPLY as the answers arrive: a flow whose REPLY is not
the reverse of ORIGINAL is translated. PACKETS and BYTES are original/reply. Of
ICMP echo the number is the id, of other ICMP messages the type and that of the answer.
VERDICT is what policy makes of the flow, - where none has a say; "audit" would be
denied, were policies enforced.

  ringway get flows --endpoint pod1 --protocol tcp --port 443
  ringway get flows --snat -o json | jq '.items[].reply.dstPort'`,
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
			sink, end := flowSink(c.OutOrStdout(), as)
			err = client.Flows(c.Context(), &filter.FlowFilter, sink)
			return end(err)
		},
	}
	filter.flags(c)
	to.flags(c)
	as.flag(c)
	return c
}

// flowSink prints flows as the user asked. end is called once, with what ended
// the listing.
func flowSink(w io.Writer, as output) (sink func(*pb.Flow) error, end func(error) error) {
	if as.structured() {
		s := newItemStream(w, as)
		return func(f *pb.Flow) error { return s.item(f) }, func(err error) error {
			if err != nil {
				return err
			}
			return s.end()
		}
	}
	t := newRowStream(w, as.wide(), "PROTO", "ORIGINAL", "REPLY", "STATE", "EXPIRES", "PACKETS", "BYTES", "ENDPOINT", "VERDICT", "|", "POLICY-RULE", "RULE", "WORKER", "AGE")
	sink = func(f *pb.Flow) error {
		return t.row(f.GetProtocol(), tuple(f.GetOriginal()), tuple(f.GetReply()), f.GetState(), seconds(f.GetExpires()),
			fmt.Sprintf("%d/%d", f.GetOriginalPackets(), f.GetReplyPackets()), fmt.Sprintf("%d/%d", f.GetOriginalBytes(), f.GetReplyBytes()),
			f.GetEndpoint(), f.GetVerdict(), f.GetPolicyRule(), f.GetRule(), f.GetWorker(), seconds(f.GetAge()))
	}
	return sink, func(err error) error {
		if err != nil && t.empty() {
			return err
		}
		return errors.Join(err, t.end())
	}
}

func tuple(t *pb.FlowTuple) string {
	return hostPort(t.GetSrc(), t.GetSrcPort()) + " > " + hostPort(t.GetDst(), t.GetDstPort())
}

// hostPort leaves out a port of 0, which stands for none.
func hostPort(host string, port uint32) string {
	if port == 0 {
		return host
	}
	return net.JoinHostPort(host, strconv.FormatUint(uint64(port), 10))
}

func seconds(d *durationpb.Duration) string { return d.AsDuration().Truncate(time.Second).String() }

// flowFilter is the flags that select flows.
type flowFilter struct{ pb.FlowFilter }

func (f *flowFilter) flags(c *cobra.Command) {
	s := c.Flags()
	s.StringVar(&f.Endpoint, "endpoint", "", "only flows of this endpoint")
	s.StringVar(&f.Protocol, "protocol", "", "only this protocol: tcp, udp, icmp, sctp or a number")
	s.StringVar(&f.Address, "address", "", "only flows with this IPv4 address, at either end of either tuple")
	s.Uint32Var(&f.Port, "port", 0, "only flows with this port or ICMP id, at either end of either tuple; 0: any")
	s.BoolVar(&f.Snat, "snat", false, "only flows whose source is translated")
}

// check finds out before the agent is asked, so that it counts as wrong usage.
func (f *flowFilter) check() error {
	if _, err := control.ParseFlowFilter(&f.FlowFilter); err != nil {
		return exitError{exitUsage, err}
	}
	return nil
}
