package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	pb "ringway/control/ringwayv1"
)

// Exit codes of diff. They are those of diff(1) and kubectl diff, so that a script
// can tell a difference from a failure.
const (
	exitDifferent  = 1
	exitDiffFailed = 2
)

// newDiffCommand is ringway diff.
func newDiffCommand() *cobra.Command {
	var to controllerTarget
	var as output
	var file string
	c := &cobra.Command{
		Use:   "diff -f FILE",
		Short: "Show what apply would change, down to the live flows of each node",
		Long: `Show what apply would change: the objects, what each node would get, and how many
of its live flows would be decided anew.

Exit code 0: nothing would change; 1: something would; 2: that could not be found
out.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			answer, err := diff(c, &to, as, file)
			if err != nil {
				return exitError{exitDiffFailed, err}
			}
			err = as.write(c.OutOrStdout(), answer, func(w io.Writer) error { return showDiff(w, answer) })
			if err != nil {
				return exitError{exitDiffFailed, err}
			}
			if different(answer) {
				return exitError{code: exitDifferent}
			}
			return nil
		},
	}
	fileFlag(c, &file)
	to.flags(c)
	as.flag(c)
	return c
}

func diff(c *cobra.Command, to *controllerTarget, as output, file string) (*pb.DiffObjectsResponse, error) {
	if err := as.check(); err != nil {
		return nil, err
	}
	all, err := manifestsOf(file, c.InOrStdin())
	if err != nil {
		return nil, err
	}
	client, err := to.client()
	if err != nil {
		return nil, err
	}
	defer client.Close()
	answer, err := client.Diff(c.Context(), documents(all))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return answer, nil
}

func different(d *pb.DiffObjectsResponse) bool {
	for _, o := range d.GetObjects() {
		if o.GetResult() != "unchanged" {
			return true
		}
	}
	return len(d.GetNodes()) > 0
}

// fewResources is how many resources of a node are shown; -o json has more.
const fewResources = 5

func showDiff(w io.Writer, d *pb.DiffObjectsResponse) error {
	for _, o := range d.GetObjects() {
		fmt.Fprintf(w, "%s %s\n%s", objectName(o.GetKey()), o.GetResult(), o.GetDiff())
	}
	if len(d.GetNodes()) == 0 {
		_, err := fmt.Fprintln(w, "No node would get anything new.")
		return err
	}
	fmt.Fprintln(w)
	t := newTable(w, "", false, "NODE", "LIVE-FLOWS", "RESOURCES")
	for _, n := range d.GetNodes() {
		flows := fmt.Sprint(n.GetLiveFlows())
		if n.GetError() != "" {
			flows = "unknown: " + n.GetError()
		}
		t.row(n.GetNode(), flows, fewOf(n.GetResources(), int(n.GetMoreResources())))
	}
	return t.end()
}

func fewOf(resources []string, more int) string {
	if len(resources) > fewResources {
		more += len(resources) - fewResources
		resources = resources[:fewResources]
	}
	out := strings.Join(resources, ", ")
	if more > 0 {
		out += fmt.Sprintf(" and %d more", more)
	}
	return out
}
