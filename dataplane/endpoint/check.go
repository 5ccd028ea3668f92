package endpoint

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"

	"ringway/dataplane/rtnl"
)

// Verdict says what to do with an endpoint that was there before a restart.
type Verdict int

const (
	// Adopt: namespace and devices are those of the record; nothing to do.
	Adopt Verdict = iota
	// Repair: the namespace is the record's, but of the pair something is
	// missing or other: Attach it again.
	Repair
	// Reap: the namespace is gone, or another one has its name: detach and forget.
	Reap
)

var verdictNames = [...]string{"adopt", "repair", "reap"}

// String names the verdict.
func (v Verdict) String() string { return verdictNames[v] }

// Check compares a record with what is there. It changes nothing. An error says
// that it could not be told, not what to do.
func Check(h *rtnl.Handle, r Record) (v Verdict, reason string, err error) {
	p, err := openPod(h, r.Netns)
	if errors.Is(err, ErrNoNetns) {
		return Reap, err.Error(), nil
	}
	if err != nil {
		return Reap, "", err
	}
	defer p.Close()
	if p.cookie != r.NetnsCookie || p.inode != r.NetnsInode {
		return Reap, fmt.Sprintf("%s is another namespace than it was", r.Netns), nil
	}
	ours, err := find(h, r.HostDevice)
	if err != nil {
		return Repair, "", err
	}
	theirs, err := find(p.Handle, r.Ifname)
	if err != nil {
		return Repair, "", err
	}
	if reason := p.differs(ours, theirs, r); reason != "" {
		return Repair, reason, nil
	}
	return Adopt, "", nil
}

func (p *pod) differs(ours, theirs netlink.Link, r Record) string {
	switch {
	case ours == nil:
		return r.HostDevice + " is missing"
	case theirs == nil:
		return r.Ifname + " is missing in the pod"
	case !p.isPair(ours, theirs):
		return fmt.Sprintf("%s and %s in the pod are not a pair", r.HostDevice, r.Ifname)
	case ours.Attrs().Index != r.Ifindex || theirs.Attrs().Index != r.PodIfindex:
		return "the pair was made anew by somebody"
	case !hasMAC(theirs, r.MAC):
		return r.Ifname + " in the pod has another MAC"
	}
	return ""
}
