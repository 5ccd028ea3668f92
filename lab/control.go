package lab

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"time"

	"ringway/control/ringwayv1"
)

// checkControl refuses controllers and etcd members that do not go together.
func (o Options) checkControl() error {
	switch {
	case o.Controllers < 0 || o.Controllers > maxControlHosts:
		return fmt.Errorf("controllers %d: use 1 to %d, or 0 for tables files", o.Controllers, maxControlHosts)
	case o.Etcd < 0 || o.Etcd > maxControlHosts:
		return fmt.Errorf("etcd members %d: use 1 to %d, or 0 for an embedded etcd", o.Etcd, maxControlHosts)
	case o.Controllers == 0 && o.Etcd > 0:
		return errors.New("etcd members: without controllers nobody uses them")
	case o.Controllers > 1 && o.Etcd == 0:
		return fmt.Errorf("controllers %d: an embedded etcd serves one; add etcd members", o.Controllers)
	case o.Etcd > 0 && o.EtcdBinary == "":
		return errors.New("etcd members: there is no etcd beside the ringway binary: build it (make etcd)")
	case o.Controllers > 0 && o.Binary == "":
		return errors.New("controllers: they need the ringway binary")
	}
	return nil
}

// controlHosts are the hosts that controllers and etcd members share.
func (s *state) controlHosts() []string {
	var hosts []string
	for i := range max(s.Controllers, s.Etcd) {
		hosts = append(hosts, controlHost(i))
	}
	return hosts
}

// Controllers lists the controllers, each by the name of its host. Without any,
// agents have their tables from files.
func (l *Lab) Controllers() []string {
	var names []string
	for i := range l.state.Controllers {
		names = append(names, controlHost(i))
	}
	return names
}

// HasControl says whether agents have their tables from a controller.
func (l *Lab) HasControl() bool { return l.state.Controllers > 0 }

// controllerOf is the controller that commands on a host ask: that of the host
// itself, else the first one; empty: there is none.
func (l *Lab) controllerOf(host string) string {
	names := l.Controllers()
	if len(names) == 0 || slices.Contains(names, host) {
		return cmp.Or(names[:min(1, len(names))]...)
	}
	return names[0]
}

// controllerPort is where agents reach a controller.
const controllerPort = 6650

func controllerAddress(i int) string { return fmt.Sprintf("%s:%d", controlAddress(i), controllerPort) }

func (l *Lab) controllerAddresses() []any {
	var list []any
	for i := range l.state.Controllers {
		list = append(list, controllerAddress(i))
	}
	return list
}

// buildControl starts etcd members and controllers, and tells them of the
// cluster, so that agents can join it.
func (l *Lab) buildControl(ctx context.Context) error {
	if !l.HasControl() {
		return nil
	}
	if err := l.makeAuthority(); err != nil {
		return err
	}
	if err := l.buildEtcd(); err != nil {
		return err
	}
	for _, name := range l.Controllers() {
		if err := l.writeController(name); err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := l.Start(name); err != nil {
			return err
		}
	}
	if err := l.WaitController(ctx, l.Controllers()[0]); err != nil {
		return err
	}
	return l.setClusterTables(ctx, tableSet(l.state.Routing), poolDocument)
}

// writeController writes the configuration of a controller, with a certificate of
// its own.
func (l *Lab) writeController(name string) error {
	files, err := l.issueController(name)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(l.dataDir(name), 0o700); err != nil {
		return fmt.Errorf("make the data directory of the controller of %s: %w", name, err)
	}
	config := map[string]any{
		"name":     name,
		"listen":   net.JoinHostPort(l.Address(name).String(), strconv.Itoa(controllerPort)),
		"tls":      tlsFiles(files),
		"socket":   l.Socket(name),
		"auditLog": l.hostFile(name, "audit.log"),
	}
	members := l.etcdEndpoints()
	if len(members) == 0 {
		config["dataDir"] = l.dataDir(name)
		return l.writeConfig(name, config)
	}
	if files, err = l.issueEtcdClient(name); err != nil {
		return err
	}
	config["etcdEndpoints"], config["etcdTLS"] = members, tlsFiles(files)
	return l.writeConfig(name, config)
}

// dataDir is where a controller's embedded etcd keeps its data.
func (l *Lab) dataDir(name string) string { return l.hostFile(name, "data") }

// waitJoined waits until every agent has the cluster's table set in force.
func (l *Lab) waitJoined(ctx context.Context) error {
	if !l.HasControl() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for _, host := range l.Agents() {
		version, err := l.TablesVersion(host)
		if err != nil {
			return err
		}
		if err := l.WaitTables(ctx, host, version); err != nil {
			return err
		}
	}
	return nil
}

func (l *Lab) controller(name string) daemon {
	return daemon{
		what: "the controller of " + name, config: l.hostFile(name, "controller.yaml"),
		logFile: l.hostFile(name, "controller.log"), pidFile: l.hostFile(name, "controller.pid"),
	}
}

func (l *Lab) startController(name string) error {
	l.logf("controller on %s", name)
	d := l.controller(name)
	ended, err := d.start(l.Command(name, l.state.Binary, "controller", "-c", d.config))
	if err != nil {
		return err
	}
	return l.waitReady(d, l.Socket(name), ended)
}

// WaitController waits until a controller says that it is healthy.
func (l *Lab) WaitController(ctx context.Context, name string) error {
	return l.waitControllerStatus(ctx, name, func(s *ringwayv1.ControllerStatus) bool { return s.GetHealthy() })
}

func (l *Lab) waitControllerStatus(ctx context.Context, name string, holds func(*ringwayv1.ControllerStatus) bool) error {
	c, err := l.Objects(name)
	if err != nil {
		return err
	}
	defer c.Close()
	for {
		call, cancel := context.WithTimeout(ctx, time.Second)
		s, err := c.Status(call)
		cancel()
		if err == nil && holds(s) {
			return nil
		}
		if wait := pause(ctx); wait != nil {
			return fmt.Errorf("the controller of %s: status %v: %w", name, s, errors.Join(err, wait))
		}
	}
}
