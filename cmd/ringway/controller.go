package main

import (
	"github.com/spf13/cobra"

	"ringway/control/controller"
)

func newControllerCommand() *cobra.Command {
	var path string
	var printConfig bool
	var endpoints []string
	c := &cobra.Command{
		Use:   "controller -c controller.yaml",
		Short: "Run a control plane of the cluster",
		Long: `Run a control plane of the cluster, until SIGTERM. On one machine it needs nothing
else: it keeps the state by itself. With --etcd-endpoints it uses an etcd cluster,
and there may be any number of controllers.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if printConfig {
				return controller.WriteConfig(c.OutOrStdout(), controller.DefaultConfig())
			}
			if path == "" {
				return usagef("config: is missing: give the file by -c; --print-config shows its keys")
			}
			cfg, err := controller.LoadConfig(path, endpoints)
			if err != nil {
				return err
			}
			log, err := newLogger(c.ErrOrStderr(), cfg.LogLevel)
			if err != nil {
				return err
			}
			return controller.Run(c.Context(), cfg, log)
		},
	}
	c.Flags().StringVarP(&path, "config", "c", "", "controller.yaml")
	c.Flags().BoolVar(&printConfig, "print-config", false, "print every key with its default and what it means")
	c.Flags().StringSliceVar(&endpoints, "etcd-endpoints", nil, "URLs of etcd members to use instead of the embedded one; overrides etcdEndpoints of the file")
	return c
}
