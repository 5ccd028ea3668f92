// Command ringway is the node dataplane, its tools and its testbed in one
// binary.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"ringway/control"
)

// Exit codes.
const (
	exitFailure = 1
	exitUsage   = 2
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run is main without the process.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root, started := newRootCommand()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	var exit exitError
	if errors.As(err, &exit) && exit.silent() {
		return exit.code
	}
	fmt.Fprintln(stderr, "ringway: "+oneLine(err))
	switch {
	case exit.code != 0:
		return exit.code
	case !*started: // cobra did not like the flags, arguments or command
		return exitUsage
	default:
		return exitFailure
	}
}

// exitError ends the program with a code of its own.
type exitError struct {
	code int
	err  error // nil: everything was said already
}

func (e exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}

func (e exitError) Unwrap() error { return e.err }

func (e exitError) silent() bool { return e.err == nil }

// usagef is for what cobra cannot know of the arguments.
func usagef(format string, args ...any) error {
	return exitError{exitUsage, fmt.Errorf(format, args...)}
}

// oneLine keeps to the contract of one line an error: the first problem stands
// for all.
func oneLine(err error) string {
	first, rest, more := strings.Cut(err.Error(), "\n")
	var ps control.Problems
	if more && errors.As(err, &ps) {
		return fmt.Sprintf("%s (and %d more)", first, len(ps)-1)
	}
	if more {
		return first + "; " + strings.ReplaceAll(rest, "\n", "; ")
	}
	return first
}

// newRootCommand has all commands. started turns true when one of them has its
// arguments and runs.
func newRootCommand() (root *cobra.Command, started *bool) {
	started = new(bool)
	cobra.EnableTraverseRunHooks = true // a command with a hook of its own still passes this one
	root = &cobra.Command{
		Use:               "ringway",
		Short:             "A node dataplane in userspace, its control plane and its testbed",
		SilenceErrors:     true,
		SilenceUsage:      true,
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},
		PersistentPreRun:  func(*cobra.Command, []string) { *started = true },
	}
	root.AddCommand(
		newAgentCommand(),
		newControllerCommand(),
		newCleanupCommand(),
		newBenchCommand(),
		newStatusCommand(),
		newGetCommand(),
		newApplyCommand(),
		newDeleteCommand(),
		newDiffCommand(),
		newEndpointCommand(),
		newFlushCommand(),
		newCaptureCommand(),
		newPKICommand(),
		newLabCommand(),
	)
	return root, started
}
