package xdpprog

import (
	"encoding/binary"
	"fmt"
	"os"
	"sync/atomic"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// settings is the one entry of the uplink's config map, mapped into memory. The
// bpf system call would copy it byte by byte under the feet of the program; a
// store of a whole word is seen whole or not at all.
type settings struct {
	mem   []byte
	value *uplinkSettings
}

func mapSettings(m *ebpf.Map) (*settings, error) {
	mem, err := unix.Mmap(m.FD(), 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map the uplink's settings into memory: %w", err)
	}
	return &settings{mem: mem, value: (*uplinkSettings)(unsafe.Pointer(&mem[0]))}, nil
}

func (s *settings) setNode(c UplinkConfig) { atomic.StoreUint64(&s.value.Node, nodeWord(c)) }

func (s *settings) setMAC(mac [6]byte) {
	var b [8]byte
	copy(b[:], mac[:])
	atomic.StoreUint64(&s.value.Mac, binary.NativeEndian.Uint64(b[:]))
}

// unmap of nil does nothing.
func (s *settings) unmap() error {
	if s == nil {
		return nil
	}
	if err := unix.Munmap(s.mem); err != nil {
		return fmt.Errorf("unmap the uplink's settings: %w", err)
	}
	return nil
}
