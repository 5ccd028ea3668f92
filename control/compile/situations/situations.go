// Package situations holds what people want policies for, one situation a file: the
// policies, and who may then send what to whom in a cluster of six pods. The same
// situations are compiled in tests and probed with packets in the lab.
package situations

import (
	"embed"
	"fmt"
	"net/netip"
	"path"
	"strings"

	"ringway/control/compile/bythebook"
	"ringway/control/object"
)

//go:embed *.yaml
var files embed.FS

const clusterFile = "cluster.yaml"

// Situation is some policies and what they are for.
type Situation struct {
	Name     string
	About    string // lines of text
	YAML     []byte // of the policies
	Policies []*object.NetworkPolicy
}

// Probe is a packet from one pod to another, by the pods' names.
type Probe struct {
	From, To string
	Protocol string // "TCP", "UDP", "SCTP" or "ICMP"
	Port     uint16 // destination port; of ICMP the type
}

// kinds is what is sent from each pod to each other one.
var kinds = []Probe{
	{Protocol: "TCP", Port: 80},
	{Protocol: "TCP", Port: 443},
	{Protocol: "UDP", Port: 53},
	{Protocol: "SCTP", Port: 9},
	{Protocol: "ICMP", Port: 8},
}

// Cluster is the namespaces and pods of all situations, in order; the pods' names
// are theirs alone.
func Cluster() ([]*object.Namespace, []*object.Endpoint, error) {
	objects, err := load(clusterFile)
	if err != nil {
		return nil, nil, err
	}
	var namespaces []*object.Namespace
	var pods []*object.Endpoint
	for _, o := range objects {
		switch o := o.(type) {
		case *object.Namespace:
			namespaces = append(namespaces, o)
		case *object.Endpoint:
			pods = append(pods, o)
		}
	}
	return namespaces, pods, nil
}

// All is the situations in order of their names.
func All() ([]Situation, error) {
	entries, err := files.ReadDir(".")
	if err != nil {
		return nil, fmt.Errorf("list situations: %w", err)
	}
	var all []Situation
	for _, e := range entries {
		if e.Name() == clusterFile {
			continue
		}
		s, err := read(e.Name())
		if err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	return all, nil
}

func read(file string) (Situation, error) {
	doc, err := files.ReadFile(file)
	if err != nil {
		return Situation{}, fmt.Errorf("read situation: %w", err)
	}
	objects, err := load(file)
	if err != nil {
		return Situation{}, err
	}
	s := Situation{Name: strings.TrimSuffix(file, path.Ext(file)), About: about(string(doc)), YAML: doc}
	for _, o := range objects {
		p, ok := o.(*object.NetworkPolicy)
		if !ok {
			return Situation{}, fmt.Errorf("situation %s: %s is no policy", file, object.Key(o))
		}
		s.Policies = append(s.Policies, p)
	}
	return s, nil
}

// about is the comment that the file begins with.
func about(doc string) string {
	var lines []string
	for line := range strings.Lines(doc) {
		text, ok := strings.CutPrefix(strings.TrimSpace(line), "# ")
		if !ok {
			break
		}
		lines = append(lines, text)
	}
	return strings.Join(lines, "\n")
}

func load(file string) ([]object.Object, error) {
	doc, err := files.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read situation: %w", err)
	}
	docs, err := object.Parse(doc)
	if err != nil {
		return nil, fmt.Errorf("situation %s: %w", file, err)
	}
	objects, err := object.DecodeAll(docs)
	if err != nil {
		return nil, fmt.Errorf("situation %s: %w", file, err)
	}
	return objects, nil
}

// Probes is every kind of packet from each pod to each other one.
func Probes() ([]Probe, error) {
	_, pods, err := Cluster()
	if err != nil {
		return nil, err
	}
	var out []Probe
	for _, from := range pods {
		for _, to := range pods {
			if from == to {
				continue
			}
			for _, k := range kinds {
				out = append(out, Probe{from.Name, to.Name, k.Protocol, k.Port})
			}
		}
	}
	return out, nil
}

// Expected says of all probes whether they pass, by the book.
func Expected(s Situation) (map[Probe]bool, error) {
	probes, err := Probes()
	if err != nil {
		return nil, err
	}
	w, err := World(s)
	if err != nil {
		return nil, err
	}
	addresses := map[string]netip.Addr{}
	for _, p := range w.Pods {
		addresses[p.Name] = p.Address
	}
	out := make(map[Probe]bool, len(probes))
	for _, p := range probes {
		out[p] = w.Passes(bythebook.Packet{From: addresses[p.From], To: addresses[p.To], Protocol: p.Protocol, Port: p.Port})
	}
	return out, nil
}

// World is the cluster in a situation.
func World(s Situation) (*bythebook.World, error) {
	namespaces, pods, err := Cluster()
	if err != nil {
		return nil, err
	}
	w := &bythebook.World{Namespaces: map[string]map[string]string{}, Policies: s.Policies}
	for _, n := range namespaces {
		w.Namespaces[n.Name] = n.Labels
	}
	for _, e := range pods {
		address, err := netip.ParseAddr(e.Spec.Address)
		if err != nil {
			return nil, fmt.Errorf("situation %s: pod %s: %w", s.Name, e.Name, err)
		}
		pod := bythebook.Pod{Namespace: e.Namespace, Name: e.Name, Labels: e.Spec.Labels, Address: address}
		for _, p := range e.Spec.Ports {
			pod.Ports = append(pod.Ports, bythebook.Port{Name: p.Name, Protocol: p.Protocol, Number: uint16(p.Port)})
		}
		w.Pods = append(w.Pods, pod)
	}
	return w, nil
}
