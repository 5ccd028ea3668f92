package conntrack

import (
	"errors"
	"fmt"
	"os"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Both sizes are part of the layout of the file.
var (
	_ [RecordSize]byte = [unsafe.Sizeof(Flow{})]byte{}
	_ [headerSize]byte = [max(headerSize, unsafe.Sizeof(header{}))]byte{}
)

// memory is where the records lie: a file, mapped, or anonymous.
//
//	0          headerSize                                          capacity+1 records
//	+----------+----------+----------+----------+-- … --+----------+
//	|  header  | unused   |  flow 1  |  flow 2  |       |          |
//	+----------+----------+----------+----------+-- … --+----------+
//
// It is as long as the capacity asks for from the start, but sparse. Pages come
// in chunks, by a call that can fail: a page fault in a full tmpfs would be a
// SIGBUS.
type memory struct {
	file      *os.File // nil: anonymous
	bytes     []byte
	header    *header
	flows     []Flow
	populated int // bytes
}

// chunk is how many bytes are made resident at once: 2048 records. It is a
// multiple of every page size.
const chunk = 256 << 10

func fileSize(capacity int) int64 { return headerSize + int64(capacity+1)*RecordSize }

// lockPatience is how long the file may stay locked: the kernel takes a while to
// tear down a process that was killed.
const lockPatience = 2 * time.Second

// openFile opens or makes the file and locks it against other processes.
func openFile(path string) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	for began := time.Now(); ; time.Sleep(time.Millisecond) {
		err = unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return file, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) || time.Since(began) > lockPatience {
			file.Close()
			return nil, fmt.Errorf("lock %s: %w: another process uses it", path, err)
		}
	}
}

// mapMemory maps a file that has the size for the capacity; nil stands for
// anonymous memory.
func mapMemory(file *os.File, capacity int) (memory, error) {
	size := int(fileSize(capacity))
	fd, flags := -1, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE
	if file != nil {
		fd, flags = int(file.Fd()), unix.MAP_SHARED
	}
	bytes, err := unix.Mmap(fd, 0, size, unix.PROT_READ|unix.PROT_WRITE, flags)
	if err != nil {
		return memory{}, fmt.Errorf("map %d bytes of flows: %w", size, err)
	}
	base := unsafe.Pointer(unsafe.SliceData(bytes))
	return memory{
		file:   file,
		bytes:  bytes,
		header: (*header)(base),
		flows:  unsafe.Slice((*Flow)(unsafe.Add(base, headerSize)), capacity+1),
	}, nil
}

// reserve makes the memory of all records up to id resident. An error says that
// there is no more memory, or no space on the file's device.
func (m *memory) reserve(id uint32) error {
	need := int(fileSize(int(id)))
	for m.populated < need {
		to := min(m.populated+chunk, len(m.bytes))
		if err := m.populate(m.populated, to); err != nil {
			return fmt.Errorf("reserve memory for %d flows: %w", id, err)
		}
		m.populated = to
	}
	return nil
}

func (m *memory) populate(from, to int) error {
	err := unix.Madvise(m.bytes[from:to], unix.MADV_POPULATE_WRITE)
	if !errors.Is(err, unix.EINVAL) {
		return err
	}
	// Older than Linux 5.14, or emulated: space at least can be had in advance.
	if m.file == nil {
		return nil
	}
	return unix.Fallocate(int(m.file.Fd()), 0, int64(from), int64(to-from))
}

func (m *memory) unmap() error {
	bytes := m.bytes
	m.bytes, m.flows, m.header = nil, nil, nil
	return unix.Munmap(bytes)
}

func (m *memory) close() error {
	err := m.unmap()
	if m.file != nil {
		err = errors.Join(err, m.file.Close())
	}
	return err
}

// flowsIn views whole records in bytes that were read.
func flowsIn(records []Flow) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(records))), len(records)*RecordSize)
}

// headerIn is the header as bytes, to read it into.
func headerIn(h *header) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(h)), unsafe.Sizeof(*h))
}
