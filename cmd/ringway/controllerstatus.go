package main

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	pb "ringway/control/ringwayv1"
)

// showConnection says how the node stands with its controllers. That none is
// connected is not among the problems: the node goes on with what it has.
func showConnection(line func(label, format string, args ...any), c *pb.ControllerConnection, now time.Time) {
	switch {
	case c == nil:
		return
	case c.GetConnected():
		line("Controller:", "%s, connected for %s", c.GetAddress(), age(c.GetSince(), now))
	default:
		line("Controller:", "not connected for %s, what is in force stays: %s: %s", age(c.GetSince(), now), c.GetAddress(), orNone(c.GetError()))
	}
	if c.GetConfirmed() != nil {
		line("", "the tables were current %s ago; cluster %s", age(c.GetConfirmed(), now), c.GetCluster())
	}
	if at := c.GetCertificateExpires(); at != nil {
		line("", "the certificate of the node is valid until %s", clock(at))
	}
}

// controllerStatus is ringway status --controller.
func controllerStatus(c *cobra.Command, to *controllerTarget, as output) error {
	client, err := to.client()
	if err != nil {
		return err
	}
	defer client.Close()
	s, err := client.Status(c.Context())
	if err != nil {
		return err
	}
	err = as.write(c.OutOrStdout(), s, func(w io.Writer) error { return showControllerStatus(w, s) })
	if err == nil && !s.GetHealthy() {
		return exitError{code: exitFailure} // the screen says why
	}
	return err
}

func showControllerStatus(w io.Writer, s *pb.ControllerStatus) error {
	line := func(label, format string, args ...any) {
		fmt.Fprintf(w, "%-*s%s\n", labelWidth, label, fmt.Sprintf(format, args...))
	}
	if s.GetHealthy() {
		line("Controller:", "OK")
	} else {
		line("Controller:", "%d problem(s)", len(s.GetReasons()))
	}
	for _, reason := range s.GetReasons() {
		line("", "- %s", reason)
	}
	line("Name:", "%s", s.GetController())
	line("Cluster:", "%s, version %d", s.GetCluster(), s.GetVersion())
	line("etcd:", "%s", s.GetEtcd())
	line("Nodes:", "%d, of these %d are connected here", s.GetNodes(), s.GetConnectedNodes())
	line("Endpoints:", "%d with %d identities", s.GetEndpoints(), s.GetIdentities())
	_, err := fmt.Fprintf(w, "%-*s%d\n", labelWidth, "Policies:", s.GetPolicies())
	return err
}
