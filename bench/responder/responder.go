// Package responder answers DNS queries as fast as they come: a tc program turns each
// into its answer and sends it back out of the device that it came in by.
package responder

//go:generate go tool bpf2go -cc clang-14 -strip llvm-strip-14 -cflags "-O2 -g -Wall -Werror -idirafter /usr/include/x86_64-linux-gnu -idirafter /usr/include/aarch64-linux-gnu" -target bpfel responder responder.bpf.c

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"

	"ringway/bench/ingress"
)

// Responder is a loaded program. It stays attached as long as its device exists.
type Responder struct{ objs responderObjects }

// Attach puts a responder on the ingress of a device in the namespace of the calling
// thread. It answers queries over UDP to port 53 of addr, an IPv4 address, with
// NOERROR and no record, and drops all other IPv4.
func Attach(dev netlink.Link, addr netip.Addr) (*Responder, error) {
	r, err := load(addr)
	if err != nil {
		return nil, err
	}
	if err := ingress.Attach(dev, r.objs.Respond, "responder"); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

func load(addr netip.Addr) (*Responder, error) {
	spec, err := loadResponder()
	if err != nil {
		return nil, fmt.Errorf("read the responder's program: %w", err)
	}
	a := addr.As4()
	if err := spec.Variables["address"].Set(binary.NativeEndian.Uint32(a[:])); err != nil {
		return nil, fmt.Errorf("set the responder's address: %w", err)
	}
	r := &Responder{}
	if err := spec.LoadAndAssign(&r.objs, nil); err != nil {
		return nil, fmt.Errorf("load the responder: %w", err)
	}
	return r, nil
}

// Close unloads the program once its device is gone too.
func (r *Responder) Close() error { return r.objs.Close() }
