package xdpprog

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/rlimit"
)

// pinAll makes every map of spec live under its name in dir: one that is pinned
// there is taken over with what it holds, unless another version of the program
// made it and its shape does not fit; that one is replaced by an empty one.
func pinAll(spec *ebpf.CollectionSpec, dir string, shared map[string]*ebpf.Map) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make the pin directory: %w", err)
	}
	for name, m := range spec.Maps {
		if shared[name] != nil {
			continue
		}
		m.Pinning = ebpf.PinByName
		if err := dropMisfit(m, filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	return nil
}

func dropMisfit(spec *ebpf.MapSpec, path string) error {
	m, err := ebpf.LoadPinnedMap(path, nil)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("load pinned map %s: %w", path, err)
	}
	defer m.Close()
	if err := spec.Compatible(m); err == nil {
		return nil
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("replace pinned map: %w", err)
	}
	return nil
}

// load puts what the fields of into name into the kernel, maps pinned in dir,
// unless that is empty, but for the shared ones, which are there already. Kernels before 5.11 account maps
// to RLIMIT_MEMLOCK, which is therefore lifted.
func load(spec *ebpf.CollectionSpec, dir string, shared map[string]*ebpf.Map, into any) error {
	if err := rlimit.RemoveMemlock(); err != nil {
		return fmt.Errorf("raise RLIMIT_MEMLOCK (needs CAP_SYS_RESOURCE): %w", err)
	}
	if dir != "" {
		if err := pinAll(spec, dir, shared); err != nil {
			return err
		}
	}
	opts := &ebpf.CollectionOptions{Maps: ebpf.MapOptions{PinPath: dir}, MapReplacements: shared}
	if err := spec.LoadAndAssign(into, opts); err != nil {
		return fmt.Errorf("load XDP programs with pins in %s (needs CAP_BPF, CAP_NET_ADMIN and a bpffs there): %w", dir, err)
	}
	return nil
}

// sum reads a per-CPU array of counters.
func sum(counters *ebpf.Map, names []string) (map[string]uint64, error) {
	total := make(map[string]uint64, len(names))
	for i, name := range names {
		var perCPU []uint64
		if err := counters.Lookup(uint32(i), &perCPU); err != nil {
			return nil, fmt.Errorf("read XDP counter %s: %w", name, err)
		}
		for _, n := range perCPU {
			total[name] += n
		}
	}
	return total, nil
}

// remove deletes a key; that it was not there is no error.
func remove(m *ebpf.Map, key any) error {
	if err := m.Delete(key); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return err
	}
	return nil
}

// closeAll closes programs and maps; those that were never opened are nil, which
// their Close takes.
func closeAll(objs ...io.Closer) error {
	var err error
	for _, o := range objs {
		err = errors.Join(err, o.Close())
	}
	return err
}
