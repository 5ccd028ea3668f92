package lab

import (
	"context"
	"fmt"
	"path/filepath"
	"time"
)

// Tables is the path of the table set of a host without a controller.
func (l *Lab) Tables(host string) string { return filepath.Join(l.hostDir(host), "tables.yaml") }

// tableSet is the cluster of the original scenario: masquerading is on, and of
// its defaults none is changed.
func tableSet(routing string) map[string]any {
	var list []any
	for _, n := range nodes {
		list = append(list, map[string]any{
			"name":      n.name,
			"address":   n.address,
			"nodeCidrs": []any{n.cidr},
			"vtepMac":   n.vtepMAC().String(),
		})
	}
	return map[string]any{
		"version": 1,
		"routing": routing,
		"vxlan":   map[string]any{"vni": VNI, "port": VXLANPort},
		"nodes":   list,

		"masquerade": map[string]any{},
	}
}

// SetTables rewrites the table set of a host, whole, as edit leaves it. Numbers
// are float64, as encoding/json reads them. The agent sees the change by itself.
// With a controller there is one table set for all hosts, and its version is the
// controller's.
func (l *Lab) SetTables(host string, edit func(tables map[string]any)) error {
	if err := l.CheckAgent(host); err != nil {
		return err
	}
	tables, err := readTables(l.tablesOf(host))
	if err != nil {
		return err
	}
	edit(tables)
	if !l.HasControl() {
		return writeTables(l.Tables(host), tables)
	}
	ctx, cancel := context.WithTimeout(context.Background(), changePatience)
	defer cancel()
	return l.setClusterTables(ctx, tables)
}

// changePatience is how long a controller may take to change objects.
const changePatience = 10 * time.Second

// tablesOf is the file that holds the table set of a host.
func (l *Lab) tablesOf(host string) string {
	if l.HasControl() {
		return l.clusterFile()
	}
	return l.Tables(host)
}

// TablesVersion is the version of the table set that a host has, or is to have.
func (l *Lab) TablesVersion(host string) (uint64, error) {
	tables, err := readTables(l.tablesOf(host))
	if err != nil {
		return 0, err
	}
	version, ok := tables["version"].(float64)
	if !ok {
		return 0, fmt.Errorf("the tables of %s have version %v: want a number", host, tables["version"])
	}
	return uint64(version), nil
}

// Update is SetTables with the next version, and waits until that is in force at
// the host.
func (l *Lab) Update(ctx context.Context, host string, edit func(tables map[string]any)) error {
	version, err := l.TablesVersion(host)
	if err != nil {
		return err
	}
	err = l.SetTables(host, func(t map[string]any) {
		edit(t)
		t["version"] = version + 1
	})
	if err != nil {
		return err
	}
	if version, err = l.TablesVersion(host); err != nil {
		return err
	}
	return l.WaitTables(ctx, host, version)
}

// SetRouting changes the routing mode of all nodes, the plain one included, and
// waits until it is in force.
func (l *Lab) SetRouting(ctx context.Context, mode string) error {
	if err := checkRouting(mode); err != nil {
		return err
	}
	for _, host := range l.Agents() {
		if err := l.Update(ctx, host, func(t map[string]any) { t["routing"] = mode }); err != nil {
			return err
		}
	}
	b, err := newBuilder(l, linuxNode)
	if err != nil {
		return err
	}
	defer b.close()
	if err := b.linuxNodeRoutes(mode); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.state.Routing = mode
	return l.save()
}

// Routing is the mode that Up or the last SetRouting chose.
func (l *Lab) Routing() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state.Routing
}
