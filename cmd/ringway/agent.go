package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"runtime"

	"github.com/spf13/cobra"

	"ringway/control"
	"ringway/dataplane"
)

func newAgentCommand() *cobra.Command {
	var path string
	var printConfig bool
	c := &cobra.Command{
		Use:   "agent -c agent.yaml",
		Short: "Run the dataplane of this node",
		Long: `Run the dataplane of this node, until SIGTERM. What is on the node stays as it
is then: the next agent takes it over; ringway cleanup takes it away.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if printConfig {
				return control.WriteConfig(c.OutOrStdout(), control.DefaultConfig())
			}
			if path == "" {
				return usagef("config: is missing: give the file by -c; --print-config shows its keys")
			}
			cfg, err := control.LoadConfig(path)
			if err != nil {
				return err
			}
			return runAgent(c, cfg)
		},
	}
	c.Flags().StringVarP(&path, "config", "c", "", "agent.yaml")
	c.Flags().BoolVar(&printConfig, "print-config", false, "print every key with its default and what it means")
	return c
}

func runAgent(c *cobra.Command, cfg control.Config) (err error) {
	log, err := newLogger(c.ErrOrStderr(), cfg.LogLevel)
	if err != nil {
		return err
	}
	// Workers keep a P busy each while they spin; the control side needs one, too.
	runtime.GOMAXPROCS(max(runtime.NumCPU(), cfg.Workers+2))
	l, err := control.Listen(cfg.Socket, cfg.Access())
	if err != nil {
		return err
	}
	d, err := dataplane.Open(cfg.Dataplane(), log)
	if err != nil {
		return errors.Join(err, l.Close())
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	if err := forgetCluster(cfg); err != nil {
		return errors.Join(err, l.Close())
	}
	return control.Serve(c.Context(), control.Options{
		Listener: l, Engine: d, Node: cfg.Node, Tables: cfg.Tables, Join: cfg.Join(), AuditLog: cfg.AuditLog, Log: log,
	})
}

// forgetCluster takes away what a controller gave, where there is none any more:
// it is not what is in force.
func forgetCluster(cfg control.Config) error {
	if cfg.Join() != nil {
		return nil
	}
	if err := os.Remove(cfg.JoinStateFile()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("forget the cluster that the node was in: %w", err)
	}
	return nil
}

func newLogger(w io.Writer, level string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, fmt.Errorf("logLevel: %q: must be debug, info, warn or error", level)
	}
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: l})), nil
}
