package chain

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"ringway/bench/thread"
)

// Layout says which CPU does what. Both candidates of a pair have the same.
type Layout struct {
	Name      string
	Generator int // CPU of the generator
	// NAPI is the CPU of the kernel thread that polls the DUT's receiving device,
	// or -1: the generator's softirq does it, as veth does by default.
	NAPI int
	DUT  int // CPU of the DUT's own thread, its transmissions and the sink
}

// OneCore gives a DUT one CPU for everything, from taking a frame off its device
// to the sink: what a core can do. Only there kernel and userspace compare.
const OneCore = "one-core"

// Split takes the receive work of the kernel off the DUT's CPU, as a NIC's
// interrupts on another CPU do: what a worker can do.
const Split = "split"

// NewLayout returns the layout of a name for the CPUs that this process may use.
func NewLayout(name string) (Layout, error) {
	cpus, err := allowedCPUs()
	if err != nil {
		return Layout{}, err
	}
	if len(cpus) < 2 {
		return Layout{}, fmt.Errorf("%d CPU to run on: the bench needs 2", len(cpus))
	}
	switch {
	case name == OneCore:
		return Layout{Name: name, Generator: cpus[0], NAPI: cpus[1], DUT: cpus[1]}, nil
	case name == Split && len(cpus) == 2:
		return Layout{Name: name, Generator: cpus[0], NAPI: -1, DUT: cpus[1]}, nil
	case name == Split:
		return Layout{Name: name, Generator: cpus[0], NAPI: cpus[1], DUT: cpus[2]}, nil
	}
	return Layout{}, fmt.Errorf("layout %q: must be %s or %s", name, OneCore, Split)
}

func allowedCPUs() ([]int, error) {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(os.Getpid(), &set); err != nil {
		return nil, fmt.Errorf("read the CPU set: %w", err)
	}
	var cpus []int
	for cpu := 0; len(cpus) < set.Count(); cpu++ {
		if set.IsSet(cpu) {
			cpus = append(cpus, cpu)
		}
	}
	return cpus, nil
}

// Shared says that a DUT's thread and the NAPI thread that feeds it are on one
// CPU. Then the DUT must sleep when it has nothing to do and must win when it
// has: a spinning one starves its own input, an equal one is starved by it.
func (l Layout) Shared() bool { return l.NAPI == l.DUT }

// String says it in words.
func (l Layout) String() string {
	napi := fmt.Sprintf("receive NAPI threaded on CPU %d", l.NAPI)
	if l.NAPI < 0 {
		napi = fmt.Sprintf("receive NAPI inline on CPU %d", l.Generator)
	}
	return fmt.Sprintf("%s: generator on CPU %d, %s, DUT and sink on CPU %d", l.Name, l.Generator, napi, l.DUT)
}

// threadNAPI has a device's NAPI polled by a kernel thread.
func threadNAPI(n *Namespace, device string) error {
	return thread.Call(func() error {
		if err := n.enterWithMounts(); err != nil {
			return err
		}
		path := filepath.Join("/sys/class/net", device, "threaded")
		if err := os.WriteFile(path, []byte("1"), 0); err != nil {
			return fmt.Errorf("make the NAPI of %s threaded: %w", device, err)
		}
		return nil
	})
}

// pinNAPI puts the NAPI threads of a device on a CPU. Attaching an XDP program
// may have made new ones, so it is called after a DUT started. Kernel threads
// live in no network namespace: the device's name must be unique among the chains
// that stand at one time.
func pinNAPI(device string, cpu int) error {
	deadline := time.Now().Add(time.Second)
	for {
		pids, err := kernelThreads("napi/" + device + "-")
		if err != nil {
			return err
		}
		if len(pids) > 0 {
			return pinAll(pids, cpu)
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s has no NAPI thread", device)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func pinAll(pids []int, cpu int) error {
	var set unix.CPUSet
	set.Set(cpu)
	for _, pid := range pids {
		if err := unix.SchedSetaffinity(pid, &set); err != nil {
			return fmt.Errorf("pin NAPI thread %d to CPU %d: %w", pid, cpu, err)
		}
	}
	return nil
}

func kernelThreads(prefix string) ([]int, error) {
	paths, err := filepath.Glob("/proc/[0-9]*/comm")
	if err != nil {
		return nil, fmt.Errorf("list threads: %w", err)
	}
	var pids []int
	for _, path := range paths {
		comm, err := os.ReadFile(path)
		if err != nil || !strings.HasPrefix(string(comm), prefix) {
			continue // ended since, or another
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err != nil {
			return nil, fmt.Errorf("list threads: %w", err)
		}
		pids = append(pids, pid)
	}
	return pids, nil
}
