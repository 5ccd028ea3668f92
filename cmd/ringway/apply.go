package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"ringway/control"
	pb "ringway/control/ringwayv1"
)

// newApplyCommand is ringway apply.
func newApplyCommand() *cobra.Command {
	var to controllerTarget
	var as output
	var file string
	c := &cobra.Command{
		Use:   "apply -f FILE",
		Short: "Make or replace objects of the cluster",
		Long: `Make or replace objects of the cluster: YAML or JSON, any number of documents. All
of them are taken, or none. More than fit in one transaction of etcd, which are some
hundred, go in batches, each of which is taken as a whole or not at all, with what
others need first.

An object that has metadata.resourceVersion is only taken if nobody has changed it
since it had that.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := as.check(); err != nil {
				return err
			}
			all, err := manifestsOf(file, c.InOrStdin())
			if err != nil {
				return err
			}
			client, err := to.client()
			if err != nil {
				return err
			}
			defer client.Close()
			answer, err := applyAll(c.Context(), client, file, all, notice(c.OutOrStdout(), as))
			if err != nil {
				return err
			}
			return as.write(c.OutOrStdout(), answer, func(w io.Writer) error { return showResults(w, answer.GetResults()) })
		},
	}
	fileFlag(c, &file)
	to.flags(c)
	as.flag(c)
	return c
}

func fileFlag(c *cobra.Command, file *string) {
	c.Flags().StringVarP(file, "filename", "f", "", "file with the objects; - is stdin")
}

func manifestsOf(file string, stdin io.Reader) ([]manifest, error) {
	if file == "" {
		return nil, usagef("-f is missing: give the file with the objects, or - for stdin")
	}
	return readManifests(file, stdin)
}

// notice prints what is not part of an answer, which a program must not get.
func notice(w io.Writer, as output) func(format string, args ...any) {
	return func(format string, args ...any) {
		if !as.structured() {
			fmt.Fprintf(w, format+"\n", args...)
		}
	}
}

// applyAll joins the answers of the batches, if there are several.
func applyAll(ctx context.Context, client *control.ObjectClient, file string, all []manifest, say func(string, ...any)) (*pb.ApplyObjectsResponse, error) {
	parts := batches(all)
	if len(parts) > 1 {
		inOrder(all)
		parts = batches(all)
		say("%d objects are applied in %d batches, each as a whole or not at all", len(all), len(parts))
	}
	answer := &pb.ApplyObjectsResponse{}
	for i, batch := range parts {
		one, err := client.Apply(ctx, documents(batch))
		if err != nil && i > 0 {
			return nil, fmt.Errorf("%s: batch %d of %d, those before it are applied: %w", file, i+1, len(parts), err)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		answer.Results = append(answer.Results, one.GetResults()...)
		answer.Version = one.GetVersion()
	}
	return answer, nil
}

func documents(all []manifest) []string {
	out := make([]string, len(all))
	for i, m := range all {
		out[i] = m.document
	}
	return out
}

func showResults(w io.Writer, results []*pb.ObjectResult) error {
	for _, r := range results {
		if _, err := fmt.Fprintf(w, "%s %s\n", objectName(r.GetKey()), r.GetResult()); err != nil {
			return err
		}
	}
	return nil
}

// objectName is as in "NetworkPolicy default/web".
func objectName(k *pb.ObjectKey) string {
	if k.GetNamespace() == "" {
		return k.GetKind() + " " + k.GetName()
	}
	return k.GetKind() + " " + k.GetNamespace() + "/" + k.GetName()
}
