package main

import (
	"errors"

	"github.com/spf13/cobra"

	"ringway/control"
	"ringway/dataplane"
)

func newCleanupCommand() *cobra.Command {
	var path string
	c := &cobra.Command{
		Use:   "cleanup -c agent.yaml",
		Short: "Take everything off this node that its agent made",
		Long: `Take everything off this node that its agent made: XDP programs, pins, devices,
kernel routes, state and socket. Its pods lose their network. An agent that runs
must be stopped first.`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			cfg := control.DefaultConfig()
			if path != "" {
				var err error
				if cfg, err = control.LoadConfig(path); err != nil {
					return err
				}
			}
			return errors.Join(dataplane.Cleanup(cfg.Dataplane()), control.RemoveSocket(cfg.Socket))
		},
	}
	c.Flags().StringVarP(&path, "config", "c", "", "agent.yaml of the agent; without it the default directories are cleaned")
	return c
}
