package main

import (
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"ringway/control"
	"ringway/control/controller"
)

// controllerTarget says which controller a command talks to.
type controllerTarget struct {
	command *cobra.Command
	address string
	files   control.TLSFiles
}

// flags are those of every command that talks to a controller.
func (t *controllerTarget) flags(c *cobra.Command) {
	t.command = c
	f := c.Flags()
	f.StringVar(&t.address, "controller", envOr("RINGWAY_CONTROLLER", "unix://"+controller.DefaultSocket), "the controller: unix:///PATH or HOST:PORT (env RINGWAY_CONTROLLER)")
	f.StringVar(&t.files.CA, "ca", os.Getenv("RINGWAY_CA"), "PEM file of those who issue the controllers' certificates, for HOST:PORT (env RINGWAY_CA)")
	f.StringVar(&t.files.Cert, "cert", os.Getenv("RINGWAY_CERT"), "PEM file of your certificate (env RINGWAY_CERT)")
	f.StringVar(&t.files.Key, "key", os.Getenv("RINGWAY_KEY"), "PEM file of its key (env RINGWAY_KEY)")
}

// client talks to the controller that was chosen.
func (t *controllerTarget) client() (*control.ObjectClient, error) {
	address := t.address
	if filepath.IsAbs(address) {
		address = "unix://" + address
	}
	return control.NewObjectClient(address, t.files)
}

// chosen tells for what both an agent and a controller know which of them is
// asked. An agent has no single objects, so a name is a controller's. Otherwise
// what is on the command line wins over the environment, and there the agent:
// inside a lab host both are set.
func (t *controllerTarget) chosen(agent *target, named bool) (bool, error) {
	toAgent := agent.command.Flags().Changed("socket") || agent.command.Flags().Changed("node")
	toController := t.command.Flags().Changed("controller")
	switch {
	case toAgent && toController:
		return false, usagef("--controller asks a controller, --socket and --node an agent: leave one out")
	case toAgent || toController:
		return toController, nil
	case named:
		return true, nil
	}
	return os.Getenv("RINGWAY_SOCKET") == "" && os.Getenv("RINGWAY_CONTROLLER") != "", nil
}
