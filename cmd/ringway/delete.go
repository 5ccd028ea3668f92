package main

import (
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"ringway/control"
	pb "ringway/control/ringwayv1"
)

// newDeleteCommand is ringway delete.
func newDeleteCommand() *cobra.Command {
	var to controllerTarget
	var as output
	var file, namespace string
	c := &cobra.Command{
		Use:   "delete -f FILE | delete KIND NAME [-n NAMESPACE]",
		Short: "Remove objects of the cluster; that there is none is no error",
		Args:  cobra.MaximumNArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			if err := as.check(); err != nil {
				return err
			}
			all, err := manifestsToDelete(args, namespace, file, c.InOrStdin())
			if err != nil {
				return err
			}
			client, err := to.client()
			if err != nil {
				return err
			}
			defer client.Close()
			answer, err := deleteAll(c.Context(), client, all, notice(c.OutOrStdout(), as))
			if err != nil {
				return err
			}
			return as.write(c.OutOrStdout(), answer, func(w io.Writer) error { return showResults(w, answer.GetResults()) })
		},
	}
	fileFlag(c, &file)
	c.Flags().StringVarP(&namespace, "namespace", "n", "", "namespace of the object (default \"default\")")
	to.flags(c)
	as.flag(c)
	return c
}

// manifestsToDelete are in such an order that what others need comes after them. Of
// one that is named there is only the key.
func manifestsToDelete(args []string, namespace, file string, stdin io.Reader) ([]manifest, error) {
	switch {
	case file != "" && len(args) > 0:
		return nil, usagef("-f names the objects already: leave out KIND and NAME")
	case file == "" && len(args) < 2:
		return nil, usagef("delete needs KIND and NAME, or -f FILE")
	case file == "":
		key, err := objectKey(args[0], namespace, args[1])
		return []manifest{{key: key}}, err
	}
	all, err := readManifests(file, stdin)
	inOrder(all)
	slices.Reverse(all)
	return all, err
}

func deleteAll(ctx context.Context, client *control.ObjectClient, all []manifest, say func(string, ...any)) (*pb.DeleteObjectsResponse, error) {
	parts := batches(all)
	if len(parts) > 1 {
		say("%d objects are deleted in %d batches, each as a whole or not at all", len(all), len(parts))
	}
	answer := &pb.DeleteObjectsResponse{}
	for i, batch := range parts {
		one, err := client.Delete(ctx, keys(batch))
		if err != nil && i > 0 {
			return nil, fmt.Errorf("batch %d of %d, those before it are deleted: %w", i+1, len(parts), err)
		}
		if err != nil {
			return nil, err
		}
		answer.Results = append(answer.Results, one.GetResults()...)
		answer.Version = one.GetVersion()
	}
	return answer, nil
}

func keys(all []manifest) []*pb.ObjectKey {
	out := make([]*pb.ObjectKey, len(all))
	for i, m := range all {
		out[i] = m.key
	}
	return out
}
