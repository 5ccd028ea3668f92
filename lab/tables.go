package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"sigs.k8s.io/yaml"
)

// Tables is the path of a host's table set.
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
func (l *Lab) SetTables(host string, edit func(tables map[string]any)) error {
	if err := l.CheckAgent(host); err != nil {
		return err
	}
	data, err := os.ReadFile(l.Tables(host))
	if err != nil {
		return fmt.Errorf("read the tables of %s: %w", host, err)
	}
	tables := map[string]any{}
	if err := yaml.Unmarshal(data, &tables); err != nil {
		return fmt.Errorf("read the tables of %s: %w", host, err)
	}
	edit(tables)
	return l.writeTables(host, tables)
}

func (l *Lab) writeTables(host string, tables map[string]any) error {
	data, err := yaml.Marshal(tables)
	if err != nil {
		return fmt.Errorf("write the tables of %s: %w", host, err)
	}
	return writeFile(l.Tables(host), data)
}

// TablesVersion is the version of the table set in a host's file.
func (l *Lab) TablesVersion(host string) (uint64, error) {
	var version uint64
	data, err := os.ReadFile(l.Tables(host))
	if err == nil {
		tables := struct{ Version json.Number }{}
		if err = yaml.Unmarshal(data, &tables); err == nil {
			version, err = strconv.ParseUint(tables.Version.String(), 10, 64)
		}
	}
	if err != nil {
		return 0, fmt.Errorf("read the version of the tables of %s: %w", host, err)
	}
	return version, nil
}

// Update is SetTables with the next version, and waits until that is in force.
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
	return l.WaitTables(ctx, host, version+1)
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
