package compile

import (
	"k8s.io/apimachinery/pkg/labels"

	"ringway/control/object"
)

// profile is what endpoints of one identity have in common. It is immutable.
type profile struct {
	key       string // object.Identity.Content
	namespace string
	labels    labels.Set
	ports     []object.NamedPort
}

func newProfile(i object.Identity) *profile {
	return &profile{key: i.Content(), namespace: i.Namespace, labels: i.Labels, ports: i.Ports}
}

// numbers is the ports that a policy means by a name; there are none where the pod
// has no port of that name and protocol.
func (p *profile) numbers(name, protocol string) []uint32 {
	var out []uint32
	for _, port := range p.ports {
		if port.Name == name && port.Protocol == protocol {
			out = append(out, uint32(port.Port))
		}
	}
	return out
}

// identity is a number for a profile.
type identity struct {
	id uint32
	*profile
}
