package conntrack

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"
)

// headerSize is the space that the header has; the records follow, aligned to
// cache lines.
const headerSize = 4096

// magic begins the file: "rwflows" and a newline.
const magic = 0x0a73776f6c667772

// layoutVersion changes with the meaning of any byte of the file.
const layoutVersion = 1

const bootIDSize = 40

// header begins the file. All but top and seen stay as they are from the moment
// when the magic is written, last of all.
type header struct {
	magic      uint64
	version    uint32
	recordSize uint32
	capacity   uint32
	shard      uint32
	shards     uint32
	top        uint32 // no record above was ever used
	seen       int64  // the last Tick: nanoseconds since boot
	bootID     [bootIDSize]byte
}

func bootIDBytes(id string) (b [bootIDSize]byte) {
	copy(b[:], id)
	return b
}

// foreign says why a header is not one of this layout and boot; "": it is.
func (h *header) foreign(bootID string, now int64) string {
	switch {
	case h.magic != magic:
		return "not a file of flows"
	case h.version != layoutVersion:
		return fmt.Sprintf("layout version %d, this is %d", h.version, layoutVersion)
	case h.recordSize != RecordSize:
		return fmt.Sprintf("records of %d bytes, these have %d", h.recordSize, RecordSize)
	case h.bootID != bootIDBytes(bootID):
		return "from before the last boot"
	case h.top > h.capacity:
		return fmt.Sprintf("says %d of %d records were used", h.top, h.capacity)
	case h.seen > now+int64(time.Second):
		return "from the future"
	case now-h.seen > int64(MaxTimeout):
		return fmt.Sprintf("last used %v ago", time.Duration(now-h.seen).Round(time.Hour))
	}
	return ""
}

// unfit says why the file cannot be gone on with; "": it can.
func (h *header) unfit(o *Options, size int64) string {
	if reason := h.foreign(o.BootID, o.Now); reason != "" {
		return reason
	}
	switch {
	case int(h.capacity) != o.Capacity:
		return fmt.Sprintf("capacity %d, asked for %d", h.capacity, o.Capacity)
	case int(h.shard) != o.Shard || int(h.shards) != o.Shards:
		return fmt.Sprintf("shard %d of %d, asked for %d of %d", h.shard, h.shards, o.Shard, o.Shards)
	case size != fileSize(o.Capacity):
		return fmt.Sprintf("%d bytes long, not %d", size, fileSize(o.Capacity))
	}
	return ""
}

// format writes the header of an empty file.
func (h *header) format(o *Options) {
	*h = header{
		version:    layoutVersion,
		recordSize: RecordSize,
		capacity:   uint32(o.Capacity),
		shard:      uint32(o.Shard),
		shards:     uint32(o.Shards),
		seen:       o.Now,
		bootID:     bootIDBytes(o.BootID),
	}
	atomic.StoreUint64(&h.magic, magic)
}

// openMemory gives the memory for the options and why it is empty; "": what is
// in the file may be taken over.
func openMemory(o *Options) (memory, string, error) {
	if o.Path == "" {
		m, err := mapMemory(nil, o.Capacity)
		if err != nil {
			return m, "", err
		}
		return m, NoStateFile, m.start(o)
	}
	file, err := openFile(o.Path)
	if err != nil {
		return memory{}, "", err
	}
	m, reason, err := openFileMemory(file, o)
	if err != nil {
		file.Close()
	}
	return m, reason, err
}

func openFileMemory(file *os.File, o *Options) (memory, string, error) {
	reason, err := inspect(file, o)
	if err != nil {
		return memory{}, "", err
	}
	if reason != "" {
		if err := empty(file, o.Capacity); err != nil {
			return memory{}, "", err
		}
	}
	m, err := mapMemory(file, o.Capacity)
	if err != nil || reason == "" {
		return m, reason, err
	}
	return m, reason, m.start(o)
}

// inspect says why the file has to be emptied; "": it has not.
func inspect(file *os.File, o *Options) (string, error) {
	info, err := file.Stat()
	if err != nil {
		return "", err
	}
	if info.Size() == 0 {
		return NoStateFile, nil
	}
	if info.Size() < headerSize {
		return fmt.Sprintf("only %d bytes long", info.Size()), nil
	}
	var h header
	if _, err := file.ReadAt(headerIn(&h), 0); err != nil {
		return "", err
	}
	return h.unfit(o, info.Size()), nil
}

// empty makes the file a hole of the right size.
func empty(file *os.File, capacity int) error {
	if err := file.Truncate(0); err != nil {
		return err
	}
	return file.Truncate(fileSize(capacity))
}

// start writes the header of empty memory. On an error the memory is unmapped.
func (m *memory) start(o *Options) error {
	if err := m.reserve(0); err != nil {
		return errors.Join(err, m.unmap())
	}
	m.header.format(o)
	return nil
}
