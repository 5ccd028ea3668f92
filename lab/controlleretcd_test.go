package lab

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ringway/control/ringwayv1"
)

// namespaceObject is an object of which there may be many, of a given size in bytes.
func namespaceObject(i, size int) string {
	return fmt.Sprintf(`{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "ns%d", "labels": {"number": "%[1]d"},
"annotations": {"example.com/padding": "%[2]s"}}}`, i, strings.Repeat("x", size))
}

// keeper makes objects and remembers those that it was told are there.
type keeper struct {
	lab  *Lab
	next int
	kept []string
	last uint64 // the version of the last one
}

// make makes an object through the first controller that runs.
func (k *keeper) make(patience time.Duration, size int) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	k.next++
	version, err := k.lab.offerObjects(ctx, namespaceObject(k.next, size))
	if err == nil {
		k.kept, k.last = append(k.kept, fmt.Sprintf("ns%d", k.next)), version
	}
	return err
}

// check wants all of them to be there still, at all controllers.
func (k *keeper) check(t *testing.T) {
	t.Helper()
	for _, name := range k.lab.Controllers() {
		must(t, k.lab.waitControllerStatus(testContext(t, 20*time.Second), name, func(s *ringwayv1.ControllerStatus) bool {
			return s.GetHealthy() && s.GetVersion() >= k.last
		}))
		c, err := k.lab.Objects(name)
		must(t, err)
		defer c.Close()
		list, err := c.Get(testContext(t, 5*time.Second), "Namespace", "", "")
		must(t, err)
		there := map[string]bool{}
		for _, o := range list {
			there[o.GetKey().GetName()] = true
		}
		lost := 0
		for _, name := range k.kept {
			if !there[name] {
				lost++
			}
		}
		t.Logf("%s has %d objects, %d were confirmed", name, len(list), len(k.kept))
		if lost > 0 || len(k.kept) == 0 {
			t.Errorf("%s has lost %d of %d objects", name, lost, len(k.kept))
		}
	}
}

// TestEtcdMemberKilled: with one of three members gone everything goes on; with two
// gone nothing can be changed and nobody forgets anything; when they are back, changes
// are made again.
func TestEtcdMemberKilled(t *testing.T) {
	l := haLab(t, Options{})
	traffic := startUndisturbed(t, l)
	k := &keeper{lab: l}
	must(t, k.make(5*time.Second, 0))
	must(t, l.Kill("etcd2"))
	for range 20 {
		must(t, k.make(10*time.Second, 0))
	}
	must(t, l.Kill("etcd3"))
	start := time.Now()
	err := k.make(5*time.Second, 0)
	t.Logf("with one member of three: %v, after %s", err, time.Since(start).Round(time.Millisecond))
	if err == nil {
		t.Error("a change is made without a majority of members")
	}
	inParallel(t, []string{"etcd2", "etcd3"}, l.Start)
	waitFor(t, "changes are made again", 20*time.Second, func() bool { return k.make(5*time.Second, 0) == nil })
	k.check(t)
	version, err := l.offerObjects(testContext(t, 5*time.Second), spareNode(1))
	must(t, err)
	must(t, l.waitEverywhere(testContext(t, convergeWithin), version))
	traffic.end(t)
}

// TestDiskFull fills the disk of the embedded etcd up: changes are refused, nodes go
// on, and with room again everything is there that was ever confirmed.
func TestDiskFull(t *testing.T) {
	l := agentLab(t, Options{})
	small := smallDisk(t, l, 160)
	traffic := startUndisturbed(t, l)
	k := &keeper{lab: l}
	for range 20 {
		must(t, k.make(5*time.Second, 1000))
	}
	ballast := fillDisk(t, small)
	var refused error
	for deadline := time.Now().Add(30 * time.Second); refused == nil && time.Now().Before(deadline); {
		refused = k.make(5*time.Second, 100_000)
	}
	pid, err := l.Pid("ctrl1")
	must(t, err)
	t.Logf("disk full after %d objects: %v; the controller runs: %v", len(k.kept), refused, pid != 0)
	if refused == nil {
		t.Error("changes are made on a full disk")
	}
	if err := k.make(5*time.Second, 100_000); err == nil {
		t.Error("changes are made on a full disk after the first was refused")
	}
	must(t, os.Remove(ballast))
	must(t, l.Stop("ctrl1"))
	must(t, l.Start("ctrl1"))
	k.check(t)
	must(t, k.make(5*time.Second, 0))
	version, err := l.offerObjects(testContext(t, 5*time.Second), spareNode(1))
	must(t, err)
	must(t, l.waitEverywhere(testContext(t, convergeWithin), version))
	traffic.end(t)
}

// smallDisk moves the data of ctrl1 to a tmpfs of so many MiB. The lab's own unmount
// takes it away.
func smallDisk(t *testing.T, l *Lab, size int) (dir string) {
	t.Helper()
	must(t, l.Stop("ctrl1"))
	dir = l.hostFile("ctrl1", "small")
	must(t, os.Mkdir(dir, 0o700))
	must(t, unix.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%dm,mode=700", size)))
	if out, err := exec.Command("cp", "-a", l.dataDir("ctrl1"), filepath.Join(dir, "data")).CombinedOutput(); err != nil {
		t.Fatalf("move the data: %v: %s", err, out)
	}
	must(t, l.EditConfig("ctrl1", func(config map[string]any) { config["dataDir"] = filepath.Join(dir, "data") }))
	must(t, l.Start("ctrl1"))
	must(t, l.WaitController(testContext(t, 10*time.Second), "ctrl1"))
	return dir
}

// fillDisk writes a file until nothing fits any more.
func fillDisk(t *testing.T, dir string) (ballast string) {
	t.Helper()
	ballast = filepath.Join(dir, "ballast")
	f, err := os.Create(ballast)
	must(t, err)
	defer f.Close()
	for _, chunk := range []int{1 << 20, 4096} {
		for {
			if _, err := f.Write(make([]byte, chunk)); err != nil {
				break // no space left
			}
		}
	}
	return ballast
}

// TestClockSteps starts controller and agent with clocks that have stepped: of the
// clocks that a process cannot share with the machine, those are the monotonic and the
// boot time clock (time_namespaces(7)). They go forward by ten days and back again:
// leases, back-off, timers and flows that were taken over go on, and nothing is lost.
func TestClockSteps(t *testing.T) {
	l := agentLab(t, Options{})
	k := &keeper{lab: l}
	traffic := startUndisturbed(t, l)
	for i, step := range []time.Duration{240 * time.Hour, 0} {
		must(t, k.make(5*time.Second, 0))
		must(t, l.Kill("ctrl1"))
		must(t, l.Kill("node2"))
		must(t, l.startStepped("ctrl1", step))
		must(t, l.startStepped("node2", step))
		k.check(t)
		version, err := l.offerObjects(testContext(t, 5*time.Second), spareNode(i))
		must(t, err)
		must(t, l.waitEverywhere(testContext(t, convergeWithin), version))
		if _, err := l.WaitReachable("pod1", l.Address("pod2"), 5*time.Second); err != nil {
			t.Errorf("stepped by %s: %v", step, err)
		}
		checkHealthy(t, l)
	}
	traffic.end(t)
}

// startStepped starts a program with its monotonic and boot time clocks ahead of the
// machine's.
func (l *Lab) startStepped(name string, ahead time.Duration) error {
	d, err := l.daemon(name)
	if err != nil {
		return err
	}
	seconds := fmt.Sprint(int(ahead.Seconds()))
	// What unshare executes enters the new time namespace.
	cmd := l.Command(name, "unshare", "--time", "--boottime", seconds, "--monotonic", seconds, "--",
		l.state.Binary, l.program(name), "-c", d.config)
	ended, err := d.start(cmd)
	if err != nil {
		return err
	}
	return l.waitReady(d, l.Socket(name), ended)
}
