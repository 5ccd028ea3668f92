package xdpprog

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// newTCX is a variable so that a test can be a kernel that has no tcx.
var newTCX = link.AttachTCX

// attachIngress puts prog at the tc ingress of the device: by a link pinned at
// path where the kernel has tcx (6.6), else as a classifier, which lives as long
// as the device does. The program that a process before us left there is exchanged
// for prog; with a classifier, too, no frame passes in between.
func attachIngress(prog *ebpf.Program, dev device, path string) error {
	kept, err := adoptTCX(prog, dev, path)
	if kept || err != nil {
		return err
	}
	l, err := newTCX(link.TCXOptions{Interface: dev.index, Program: prog, Attach: ebpf.AttachTCXIngress})
	if errors.Is(err, ebpf.ErrNotSupported) {
		return attachClassifier(prog, dev)
	}
	if err != nil {
		return fmt.Errorf("attach to the tc ingress of %s: %w", dev.name, err)
	}
	defer l.Close()
	if err := l.Pin(path); err != nil {
		return errors.Join(fmt.Errorf("pin the tc ingress link of %s: %w", dev.name, err), l.Detach())
	}
	return nil
}

// adoptTCX exchanges the program of the pinned link if that is at the tc ingress
// of this device. Any other is taken away: its device is gone, or a version of
// ours before this one had XDP there.
func adoptTCX(prog *ebpf.Program, dev device, path string) (bool, error) {
	l, err := link.LoadPinnedLink(path, nil)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("load pinned link %s: %w", path, err)
	}
	defer l.Close()
	info, err := l.Info()
	if err != nil {
		return false, fmt.Errorf("look at pinned link %s: %w", path, err)
	}
	// A link that refuses the new program is made anew like one that does not fit.
	if x := info.TCX(); x != nil && int(x.Ifindex) == dev.index && l.Update(prog) == nil {
		return true, nil
	}
	return false, discard(l)
}

// classifier is our filter on a device; its name and place tell it from others.
func classifier(ifindex int) *netlink.BpfFilter {
	return &netlink.BpfFilter{
		FilterAttrs: netlink.FilterAttrs{
			LinkIndex: ifindex, Parent: netlink.HANDLE_MIN_INGRESS,
			Handle: 1, Priority: 1, Protocol: unix.ETH_P_ALL,
		},
		Name:         trunkProgRwTrunkFar,
		DirectAction: true,
	}
}

func attachClassifier(prog *ebpf.Program, dev device) error {
	qdisc := &netlink.Clsact{QdiscAttrs: netlink.QdiscAttrs{
		LinkIndex: dev.index, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT,
	}}
	if err := netlink.QdiscAdd(qdisc); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("add the clsact qdisc to %s (needs Linux 6.6, or CONFIG_NET_SCH_INGRESS): %w", dev.name, err)
	}
	f := classifier(dev.index)
	f.Fd = prog.FD()
	if err := netlink.FilterReplace(f); err != nil {
		return fmt.Errorf("attach a classifier to %s (needs Linux 6.6, or CONFIG_NET_CLS_BPF): %w", dev.name, err)
	}
	return nil
}

// detachClassifier takes our filter off a device of the calling thread's network
// namespace. A device that is not there, or has another's filter, is no error.
func detachClassifier(ifindex int) error {
	l, err := netlink.LinkByIndex(ifindex)
	if err != nil {
		return nil
	}
	filters, err := netlink.FilterList(l, netlink.HANDLE_MIN_INGRESS)
	if err != nil {
		return nil // no clsact there
	}
	ours := classifier(ifindex)
	for _, f := range filters {
		b, ok := f.(*netlink.BpfFilter)
		if !ok || b.Name != ours.Name || b.Handle != ours.Handle || b.Priority != ours.Priority {
			continue
		}
		if err := netlink.FilterDel(ours); err != nil {
			return fmt.Errorf("remove the classifier of %s: %w", l.Attrs().Name, err)
		}
	}
	return nil
}

// detachClassifiers takes our filters off the far ends that the pinned map below
// pinDir names: a filter has no pin of its own.
func detachClassifiers(pinDir string) error {
	trunks, err := ebpf.LoadPinnedMap(filepath.Join(localDir(pinDir), endpointMapTrunks), nil)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("load the pinned map of trunks: %w", err)
	}
	defer trunks.Close()
	var errs error
	var worker, far uint32
	for it := trunks.Iterate(); it.Next(&worker, &far); {
		errs = errors.Join(errs, detachClassifier(int(far)))
	}
	return errs
}
