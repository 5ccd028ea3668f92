package endpoint

import (
	"errors"
	"fmt"
	"regexp"

	"github.com/vishvananda/netlink"

	"ringway/dataplane/kroute"
	"ringway/dataplane/rtnl"
)

// Cleanup removes every device and kernel route that we ever made in h's
// namespace.
func Cleanup(h *rtnl.Handle) error {
	_, routesErr := kroute.Sync(h, 0, nil)
	_, devicesErr := removeAll(h, anyOfOurs, func(string) bool { return false })
	return errors.Join(routesErr, devicesErr)
}

// Sweep removes the endpoints' devices for which keep says no: those left by a
// crash between making a pair and storing its record. It returns their names.
func Sweep(h *rtnl.Handle, keep func(hostDevice string) bool) ([]string, error) {
	return removeAll(h, endpointName, keep)
}

func removeAll(h *rtnl.Handle, name *regexp.Regexp, keep func(string) bool) ([]string, error) {
	var removed []string
	links, err := h.LinkList()
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return nil, fmt.Errorf("list devices: %w", err)
	}
	var errs []error
	for _, l := range links {
		if !isOurs(l, name) || keep(l.Attrs().Name) {
			continue
		}
		if err := h.LinkDel(l); err != nil && !rtnl.NotFound(err) {
			errs = append(errs, fmt.Errorf("delete device %s: %w", l.Attrs().Name, err))
			continue
		}
		removed = append(removed, l.Attrs().Name)
	}
	return removed, errors.Join(errs...)
}
