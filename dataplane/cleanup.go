package dataplane

import (
	"errors"
	"fmt"
	"os"

	"github.com/vishvananda/netns"

	"ringway/dataplane/endpoint"
	"ringway/dataplane/hostports"
	"ringway/dataplane/rtnl"
	"ringway/xdpprog"
)

// Cleanup takes everything off the node that an agent with this configuration
// made: programs, pins, devices, kernel routes, reserved ports, state. Pods lose their network.
// It refuses while an agent runs.
func Cleanup(cfg Config) error {
	d := &Dataplane{cfg: cfg}
	if err := d.takeStateDir(); err != nil {
		return err
	}
	defer d.lock.Close()
	h, err := rtnl.Open(netns.None())
	if err != nil {
		return err
	}
	defer h.Close()
	errs := []error{xdpprog.Cleanup(cfg.PinDir), endpoint.Cleanup(h), hostports.Release(cfg.StateDir)}
	if err := os.RemoveAll(cfg.StateDir); err != nil {
		errs = append(errs, fmt.Errorf("stateDir: %w", err))
	}
	return errors.Join(errs...)
}
