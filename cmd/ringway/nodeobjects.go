package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"
)

// showNodeObjects shows for each node whether it is connected, which version it
// has, and why it refused one.
func showNodeObjects(w io.Writer, nodes []objectDoc, now time.Time, wide bool) error {
	t := newTable(w, "", wide, "NAME", "ADDRESS", "NODE-CIDRS", "CONNECTED", "SINCE", "VERSION", "REFUSED", "ENDPOINTS", "|", "CONTROLLER", "POOL", "RESOURCE-VERSION")
	for _, n := range nodes {
		connected := "no"
		if n.text("status.connected") == "true" {
			connected = "yes"
		}
		t.row(n.text("metadata.name"), n.text("spec.address"), n.list("spec.nodeCIDRs"), connected, since(n.text("status.since"), now),
			zeroDash(n.text("status.version")), zeroDash(n.text("status.refused")), n.text("status.endpoints"),
			n.text("status.controller"), n.text("spec.pool"), n.text("metadata.resourceVersion"))
	}
	if err := t.end(); err != nil {
		return err
	}
	for _, n := range nodes {
		showRefusal(w, n)
	}
	return nil
}

// showRefusal says why a node refused a set, below the table: reasons are long.
func showRefusal(w io.Writer, n objectDoc) {
	problems, _ := n.at("status.problems").([]any)
	if len(problems) == 0 {
		return
	}
	fmt.Fprintf(w, "\n%s refused version %s and keeps %s:\n", n.text("metadata.name"), n.text("status.refused"), n.text("status.version"))
	for _, v := range problems {
		m, _ := v.(map[string]any)
		p := objectDoc(m)
		words := []string{p.text("field"), p.text("reason")}
		if remedy := p.text("remedy"); remedy != "" {
			words = append(words, remedy)
		}
		fmt.Fprintf(w, "- %s\n", strings.Join(words, ": "))
	}
}

func since(stamp string, now time.Time) string {
	at, err := time.Parse(time.RFC3339Nano, stamp)
	if err != nil {
		return ""
	}
	return age(timestamppb.New(at), now)
}

func zeroDash(s string) string {
	if s == "0" {
		return ""
	}
	return s
}
