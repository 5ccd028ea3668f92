package lab

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"sigs.k8s.io/yaml"

	"ringway/control"
	"ringway/control/ringwayv1"
)

// With a controller the lab has one table set for all: the lab keeps it in a file
// of its own, and tells the controller of it as objects.

// ownVersion is the apiVersion of Ringway's own kinds.
const ownVersion = "ringway.io/v1"

// poolDocument is where nodes that join by themselves have their CIDRs from.
const poolDocument = `apiVersion: ringway.io/v1
kind: Pool
metadata:
  name: joined
spec:
  cidrs: [10.200.128.0/17]
  maskSize: 24
`

// clusterFile is the path of the table set of a lab with controllers.
func (l *Lab) clusterFile() string { return filepath.Join(Dir(l.state.Prefix), "cluster.yaml") }

func (l *Lab) readCluster() (map[string]any, error) { return readTables(l.clusterFile()) }

// setClusterTables has the controller hold what the table set says, and more
// objects. What an earlier table set said and this one does not is taken away.
func (l *Lab) setClusterTables(ctx context.Context, tables map[string]any, more ...string) error {
	wanted, err := tableObjects(tables)
	if err != nil {
		return err
	}
	gone, err := l.goneObjects(wanted)
	if err != nil {
		return err
	}
	documents, err := wanted.documents()
	if err != nil {
		return err
	}
	documents = append(documents, more...)
	version, err := l.throughController(func(c *control.ObjectClient) (uint64, error) {
		applied, err := c.Apply(ctx, documents)
		if err != nil || len(gone) == 0 {
			return applied.GetVersion(), err
		}
		deleted, err := c.Delete(ctx, gone)
		return deleted.GetVersion(), err
	})
	if err != nil {
		return err
	}
	tables["version"] = version
	return writeTables(l.clusterFile(), tables)
}

// goneObjects are those of the table set before that are not wanted any more.
func (l *Lab) goneObjects(wanted clusterObjects) ([]*ringwayv1.ObjectKey, error) {
	before, err := l.readCluster()
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	had, err := tableObjects(before)
	if err != nil {
		return nil, err
	}
	var gone []*ringwayv1.ObjectKey
	for _, o := range had {
		if !slices.ContainsFunc(wanted, o.sameKey) {
			gone = append(gone, &ringwayv1.ObjectKey{Kind: o.Kind, Namespace: o.Metadata.Namespace, Name: o.Metadata.Name})
		}
	}
	return gone, nil
}

// clusterObject is an object of a controller that stands for a part of a table set.
type clusterObject struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Metadata   struct {
		Namespace string `json:"namespace,omitempty"`
		Name      string `json:"name"`
	} `json:"metadata"`
	Spec map[string]any `json:"spec"`
}

type clusterObjects []clusterObject

func newObject(kind, namespace, name string, spec map[string]any) clusterObject {
	o := clusterObject{APIVersion: ownVersion, Kind: kind, Spec: spec}
	o.Metadata.Namespace, o.Metadata.Name = namespace, name
	return o
}

func (o clusterObject) sameKey(other clusterObject) bool {
	return o.Kind == other.Kind && o.Metadata == other.Metadata
}

func (all clusterObjects) documents() ([]string, error) {
	var list []string
	for _, o := range all {
		data, err := json.Marshal(o)
		if err != nil {
			return nil, fmt.Errorf("write %s %s: %w", o.Kind, o.Metadata.Name, err)
		}
		list = append(list, string(data))
	}
	return list, nil
}

// tableNode, tableService and clusterTables are the parts of a table set that become
// objects.
type (
	tableNode struct {
		Name      string   `json:"name"`
		Address   string   `json:"address"`
		NodeCIDRs []string `json:"nodeCidrs"`
		VTEPMAC   string   `json:"vtepMac"`
	}
	clusterTables struct {
		Routing    string           `json:"routing"`
		VXLAN      map[string]any   `json:"vxlan"`
		MSSClamp   bool             `json:"mssClamp"`
		Policy     map[string]any   `json:"policy"`
		Nodes      []tableNode      `json:"nodes"`
		Masquerade map[string]any   `json:"masquerade"`
		Services   []map[string]any `json:"services"`
	}
)

// tableObjects are the objects that say what a table set says. Of its policy section
// that is the mode and policeHost; the rest comes from policies and endpoints.
func tableObjects(tables map[string]any) (clusterObjects, error) {
	data, err := json.Marshal(tables)
	if err != nil {
		return nil, fmt.Errorf("read the table set: %w", err)
	}
	var t clusterTables
	if err := json.Unmarshal(data, &t); err != nil {
		return nil, fmt.Errorf("read the table set: %w", err)
	}
	routing := map[string]any{"routing": t.Routing, "mssClamp": t.MSSClamp}
	if t.VXLAN != nil {
		routing["vxlan"] = t.VXLAN
	}
	if t.Policy != nil {
		routing["policy"] = t.Policy
	}
	all := clusterObjects{newObject("RoutingConfig", "", "cluster", routing)}
	for _, n := range t.Nodes {
		all = append(all, newObject("Node", "", n.Name, map[string]any{
			"address": n.Address, "nodeCIDRs": n.NodeCIDRs, "vtepMAC": n.VTEPMAC,
		}))
	}
	if t.Masquerade != nil {
		all = append(all, newObject("Masquerade", "", "cluster", t.Masquerade))
	}
	for _, s := range t.Services {
		namespace, _ := s["namespace"].(string)
		name, _ := s["name"].(string)
		delete(s, "namespace")
		delete(s, "name")
		all = append(all, newObject("Service", namespace, name, s))
	}
	return all, nil
}

// readTables reads a table set as YAML. Numbers are float64, as encoding/json reads
// them.
func readTables(path string) (map[string]any, error) {
	tables := map[string]any{}
	data, err := os.ReadFile(path)
	if err == nil {
		err = yaml.Unmarshal(data, &tables)
	}
	if err != nil {
		return nil, fmt.Errorf("read the tables: %w", err)
	}
	return tables, nil
}

func writeTables(path string, tables map[string]any) error {
	data, err := yaml.Marshal(tables)
	if err != nil {
		return fmt.Errorf("write the tables: %w", err)
	}
	return writeFile(path, data)
}

// registerPod tells the controller of a pod on the plain node, which no agent does.
func (l *Lab) registerPod(p Pod) error {
	if !l.HasControl() {
		return nil
	}
	o := newObject("Endpoint", podNamespace(p), p.Name, map[string]any{
		"node": p.Node, "address": p.Address.String(), "labels": p.Labels,
	})
	documents, err := clusterObjects{o}.documents()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), changePatience)
	defer cancel()
	return l.ApplyObjects(ctx, documents...)
}

// unregisterPod undoes registerPod.
func (l *Lab) unregisterPod(name string) error {
	p, ok := l.pod(name)
	if !l.HasControl() || !ok {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), changePatience)
	defer cancel()
	return l.DeleteObjects(ctx, &ringwayv1.ObjectKey{Kind: "Endpoint", Namespace: podNamespace(p), Name: name})
}

func podNamespace(p Pod) string { return cmp.Or(p.Namespace, "default") }
