package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
	"sigs.k8s.io/yaml"

	"ringway/lab"
)

// newLabCommand is ringway lab: the testbed in network namespaces.
func newLabCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "lab",
		Short: "Build and use a testbed in network namespaces",
		Long: `Build and use a testbed in network namespaces: four nodes, a router, a host
outside, a controller and a pod on each node. Nothing of the machine is touched.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	prefix := c.PersistentFlags().String("prefix", lab.DefaultPrefix, "prefix of the namespaces' names, ends in a dash; labs with different prefixes live side by side")
	c.AddCommand(
		newLabUpCommand(prefix),
		newLabDownCommand(prefix),
		newLabTourCommand(prefix),
		newLabStatusCommand(prefix),
		newLabExecCommand(prefix),
		newLabProgramCommand(prefix, "start NAME", "Start the agent or the controller of a host, or an etcd member", (*lab.Lab).Start),
		newLabProgramCommand(prefix, "stop NAME", "Stop one (SIGTERM)", (*lab.Lab).Stop),
		newLabProgramCommand(prefix, "kill NAME", "Kill one (SIGKILL), as a crash would", (*lab.Lab).Kill),
	)
	return c
}

func newLabUpCommand(prefix *string) *cobra.Command {
	var o lab.Options
	var tables string
	c := &cobra.Command{
		Use:   "up",
		Short: "Build the testbed and start its agents",
		Long: `Build the testbed and start its agents, which join a controller by certificate.
With --etcd the controllers, then up to three, share an etcd cluster of so many
processes (make etcd) instead of an embedded one. Where there is a coredns beside
the ringway binary (make coredns), the testbed gets DNS, too: kube-dns, a
node-local cache and a server outside.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := tablesFrom(tables, c.Flags().Changed("controllers"), &o); err != nil {
				return err
			}
			binary, err := os.Executable()
			if err != nil {
				return fmt.Errorf("find the ringway binary: %w", err)
			}
			o.Prefix, o.Binary, o.Log = *prefix, binary, c.ErrOrStderr()
			o.CoreDNS, o.EtcdBinary = beside(binary, "coredns"), beside(binary, "etcd")
			if err := o.Check(); err != nil {
				return exitError{exitUsage, err}
			}
			_, err = lab.Up(c.Context(), o) // a signal takes down what was built so far
			return err
		},
	}
	f := c.Flags()
	f.StringVar(&o.Routing, "routing", "overlay", "routing mode of the table set: overlay, direct or hybrid")
	f.StringVar(&tables, "tables", "controller", "where agents have their table sets from: controller, or file (one for each agent)")
	f.IntVar(&o.Controllers, "controllers", 1, "controllers, 1 to 3; more than one need --etcd")
	f.IntVar(&o.Etcd, "etcd", 0, "members of the controllers' etcd, 1 to 3; 0: it is embedded in the controller")
	f.IntVar(&o.Workers, "workers", 1, "workers of each agent")
	f.IntVar(&o.UplinkQueues, "uplink-queues", 1, "queues of each link between hosts, 1 to 64")
	f.IntVar(&o.UnderlayMTU, "underlay-mtu", 1500, "MTU of the links between hosts, bytes")
	return c
}

// tablesFrom makes what --tables says a number of controllers.
func tablesFrom(tables string, counted bool, o *lab.Options) error {
	switch tables {
	case "controller":
		if o.Controllers == 0 {
			return usagef("controllers 0: use 1 to 3, or --tables file")
		}
		return nil
	case "file":
		if counted || o.Etcd != 0 {
			return usagef("tables file: controllers and etcd members have no part in it; leave their flags out")
		}
		o.Controllers = 0
		return nil
	}
	return usagef("tables %q: use controller or file", tables)
}

// beside is the path of a program in the directory of another; empty: there is none.
func beside(binary, name string) string {
	path := filepath.Join(filepath.Dir(binary), name)
	if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
		return ""
	}
	return path
}

func newLabDownCommand(prefix *string) *cobra.Command {
	return &cobra.Command{
		Use:   "down",
		Short: "End all that runs in the testbed and remove it",
		Args:  cobra.NoArgs,
		RunE:  func(*cobra.Command, []string) error { return lab.Down(*prefix) },
	}
}

func newLabTourCommand(prefix *string) *cobra.Command {
	return &cobra.Command{
		Use:   "tour",
		Short: "Show on real traffic what works, step by step",
		Long: `Show on real traffic what works: for each step what was tried, what the wire
showed and whether it held. Exit code 1 if one did not.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			l, err := lab.Open(*prefix)
			if err != nil {
				return err
			}
			return l.Tour(c.Context(), c.OutOrStdout())
		},
	}
}

// newLabProgramCommand is start, stop or kill. NAME is as in node1, ctrl1 or etcd1.
func newLabProgramCommand(prefix *string, use, short string, do func(*lab.Lab, string) error) *cobra.Command {
	return &cobra.Command{
		Use:   use,
		Short: short,
		Args:  cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			l, err := lab.Open(*prefix)
			if err != nil {
				return err
			}
			return do(l, args[0])
		},
	}
}

func newLabStatusCommand(prefix *string) *cobra.Command {
	c := &cobra.Command{
		Use:   "status",
		Short: "List the hosts of the testbed",
		Args:  cobra.NoArgs,
	}
	var o output
	o.flag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		if err := o.check(); err != nil {
			return err
		}
		l, err := lab.Open(*prefix)
		if err != nil {
			return err
		}
		hosts, err := l.Status()
		if err != nil {
			return err
		}
		return printLabStatus(c.OutOrStdout(), hosts, o)
	}
	return c
}

func printLabStatus(w io.Writer, hosts []lab.HostStatus, o output) error {
	list := struct {
		Items []lab.HostStatus `json:"items"`
	}{hosts}
	switch o {
	case "json":
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(list)
	case "yaml":
		data, err := yaml.Marshal(list)
		if err != nil {
			return err
		}
		_, err = w.Write(data)
		return err
	default:
		return printLabTable(w, hosts, o == "wide")
	}
}

func printLabTable(w io.Writer, hosts []lab.HostStatus, wide bool) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	header := "NAME\tPID\tADDRESSES"
	if wide {
		header += "\tNETNS\tSOCKET\tCONFIG\tTABLES\tLOG"
	}
	fmt.Fprintln(t, header)
	for _, h := range hosts {
		pid := "-"
		switch {
		case h.Pid != 0:
			pid = fmt.Sprint(h.Pid)
		case h.Socket != "":
			pid = "stopped"
		}
		line := []string{h.Name, pid, strings.Join(h.Addresses, ", ")}
		if wide {
			line = append(line, h.Netns, h.Socket, h.Config, h.Tables, h.Log)
		}
		fmt.Fprintln(t, strings.Join(line, "\t"))
	}
	return t.Flush()
}

func newLabExecCommand(prefix *string) *cobra.Command {
	c := &cobra.Command{
		Use:   "exec HOST -- CMD [ARG...]",
		Short: "Run a command on a host, with the host's agent as its agent",
		Long: `Run a command in the network namespace of a host. RINGWAY_SOCKET is set to the
agent of the host (of a pod: of its node), RINGWAY_CONTROLLER to the controller of
the host, else to the first one, and ringway is found in PATH. The exit code is the
command's. What it resolves, it resolves as /etc/resolv.conf of the
host says.`,
		Args: cobra.MinimumNArgs(2),
		RunE: func(_ *cobra.Command, args []string) error {
			l, err := lab.Open(*prefix)
			if err != nil {
				return err
			}
			command := args[1:]
			if command[0] == "--" {
				command = command[1:]
			}
			if len(command) == 0 {
				return usagef("no command: write ringway lab exec HOST -- CMD")
			}
			return labExec(l, args[0], command)
		},
	}
	c.Flags().SetInterspersed(false) // what follows HOST is the command's
	return c
}

// labExec turns this process into the command: the terminal, signals and the
// exit code are the command's own. It returns only on failure.
func labExec(l *lab.Lab, host string, command []string) error {
	if err := l.Check(host); err != nil {
		return err
	}
	for _, v := range l.Environment(host) {
		name, value, _ := strings.Cut(v, "=")
		if err := os.Setenv(name, value); err != nil {
			return err
		}
	}
	path, err := exec.LookPath(command[0])
	if err != nil {
		return fmt.Errorf("command %q: %w", command[0], err)
	}
	runtime.LockOSThread() // execve keeps the namespace of the thread that calls it
	ns, err := netns.GetFromPath(l.Netns(host))
	if err != nil {
		return fmt.Errorf("open the namespace of %s: %w", host, err)
	}
	if err := netns.Set(ns); err != nil {
		return fmt.Errorf("enter the namespace of %s: %w", host, err)
	}
	if err := l.EnterFiles(host); err != nil {
		return err
	}
	return fmt.Errorf("run %s: %w", path, unix.Exec(path, command, os.Environ()))
}
