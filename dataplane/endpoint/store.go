package endpoint

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"ringway/internal/podaddr"
	"ringway/internal/wholefile"
)

// fileName is the store's file in the state directory; formatVersion goes up
// with a change that an older agent would misread.
const (
	fileName      = "endpoints.json"
	formatVersion = 1
)

// Record is what is remembered of an endpoint.
type Record struct {
	Name        string            `json:"name"`
	Slot        uint32            `json:"slot"`
	Address     netip.Addr        `json:"address"`
	MAC         MACText           `json:"mac"`
	MTU         int               `json:"mtu"`
	Netns       string            `json:"netns"` // path that was opened
	NetnsInode  uint64            `json:"netnsInode"`
	NetnsCookie uint64            `json:"netnsCookie"`
	Ifname      string            `json:"ifname"`
	PodIfindex  int               `json:"podIfindex"`
	HostDevice  string            `json:"hostDevice"`
	Ifindex     int               `json:"ifindex"`
	Labels      map[string]string `json:"labels,omitempty"`
	Ports       []string          `json:"ports,omitempty"` // as in http=80/TCP
}

// MACText is a MAC address that is written as text.
type MACText [6]byte

// String is the usual form, with colons.
func (m MACText) String() string {
	return fmt.Sprintf("%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4], m[5])
}

// MarshalText writes the usual form.
func (m MACText) MarshalText() ([]byte, error) { return []byte(m.String()), nil }

// UnmarshalText reads the usual form.
func (m *MACText) UnmarshalText(text []byte) error {
	var got MACText
	n, err := fmt.Sscanf(string(text), "%02x:%02x:%02x:%02x:%02x:%02x",
		&got[0], &got[1], &got[2], &got[3], &got[4], &got[5])
	if err != nil || n != len(got) || got.String() != string(text) {
		return fmt.Errorf("%q is no MAC address", text)
	}
	*m = got
	return nil
}

// file is the form on disk.
type file struct {
	Version     int        `json:"version"`
	LastAddress netip.Addr `json:"lastAddress"` // that FreeAddress gave; an older agent passes over it
	Endpoints   []Record   `json:"endpoints"`
}

// Store remembers endpoints in the state directory. Every change is on disk
// when the call returns; a crash leaves the old or the new file, whole. It is
// safe for concurrent use.
type Store struct {
	path string

	mu       sync.Mutex
	records  map[string]Record
	reserved map[string]uint32 // slots given to names that have no record yet
	last     netip.Addr        // that FreeAddress gave; on disk with the next record
}

// Load opens the store in dir, which is made if need be. A file that cannot be
// understood is moved aside and said in the log; the store then starts empty.
func Load(dir string, log *slog.Logger) (*Store, error) {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, fmt.Errorf("make the state directory: %w", err)
	}
	s := &Store{path: filepath.Join(dir, fileName), records: map[string]Record{}, reserved: map[string]uint32{}}
	data, err := os.ReadFile(s.path)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the endpoints: %w", err)
	}
	err = s.decode(data)
	if err == nil {
		return s, nil
	}
	aside := s.path + ".corrupt-" + time.Now().UTC().Format("20060102T150405.000000000")
	if renameErr := os.Rename(s.path, aside); renameErr != nil {
		return nil, fmt.Errorf("put the unreadable %s aside: %w", s.path, errors.Join(renameErr, err))
	}
	log.Error("endpoint store cannot be read and was put aside: starting without endpoints, add them again",
		"file", s.path, "aside", aside, "error", err)
	return s, nil
}

func (s *Store) decode(data []byte) error {
	var f file
	if err := json.Unmarshal(data, &f); err != nil {
		return err
	}
	if f.Version != formatVersion {
		return fmt.Errorf("format version %d, this agent reads %d", f.Version, formatVersion)
	}
	records := make(map[string]Record, len(f.Endpoints))
	slots := make(map[uint32]string, len(f.Endpoints))
	for _, r := range f.Endpoints {
		if other, taken := slots[r.Slot]; taken || r.Name == "" || r.Slot == 0 {
			return fmt.Errorf("endpoint %q has slot %d, which is %q's or nobody's", r.Name, r.Slot, other)
		}
		if _, twice := records[r.Name]; twice {
			return fmt.Errorf("endpoint %q is there twice", r.Name)
		}
		records[r.Name], slots[r.Slot] = r, r.Name
	}
	s.records, s.last = records, f.LastAddress
	return nil
}

// Get returns the record of a name.
func (s *Store) Get(name string) (Record, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, ok := s.records[name]
	return r, ok
}

// List returns all records, by name.
func (s *Store) List() []Record {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.list()
}

func (s *Store) list() []Record {
	list := make([]Record, 0, len(s.records))
	for _, r := range s.records {
		list = append(list, r)
	}
	slices.SortFunc(list, func(a, b Record) int { return strings.Compare(a.Name, b.Name) })
	return list
}

// Put stores a record in place of the one with its name.
func (s *Store) Put(r Record) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if owner, taken := s.owner(r.Slot); r.Slot == 0 || taken && owner != r.Name {
		return fmt.Errorf("store endpoint %s: slot %d is taken by %q", r.Name, r.Slot, owner)
	}
	before, had := s.records[r.Name]
	s.records[r.Name] = r
	if err := s.write(); err != nil {
		s.restore(r.Name, before, had)
		return fmt.Errorf("store endpoint %s: %w", r.Name, err)
	}
	delete(s.reserved, r.Name)
	return nil
}

// Delete forgets a name and frees its slot. It is no error if it is not there.
func (s *Store) Delete(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.reserved, name)
	before, had := s.records[name]
	if !had {
		return nil
	}
	delete(s.records, name)
	if err := s.write(); err != nil {
		s.restore(name, before, had)
		return fmt.Errorf("forget endpoint %s: %w", name, err)
	}
	return nil
}

func (s *Store) restore(name string, before Record, had bool) {
	delete(s.records, name)
	if had {
		s.records[name] = before
	}
}

// AllocSlot gives a name its slot: the one that it has, else the lowest that is
// free of 1 to highest. Until Put or Delete the slot is reserved for the name.
func (s *Store) AllocSlot(name string, highest uint32) (uint32, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r, ok := s.records[name]; ok {
		return r.Slot, nil
	}
	if slot, ok := s.reserved[name]; ok {
		return slot, nil
	}
	taken := make(map[uint32]bool, len(s.records)+len(s.reserved))
	for _, r := range s.records {
		taken[r.Slot] = true
	}
	for _, slot := range s.reserved {
		taken[slot] = true
	}
	for slot := uint32(1); slot <= highest; slot++ {
		if !taken[slot] {
			s.reserved[name] = slot
			return slot, nil
		}
	}
	return 0, fmt.Errorf("all %d endpoint slots are taken: raise maxEndpoints, or remove an endpoint", highest)
}

// FreeAddress is the next address out of a node's CIDRs that no endpoint has: see
// podaddr.Next. It is false when there is none. Only Put gives it to somebody, so
// that nobody has it whose record a crash took away.
func (s *Store) FreeAddress(cidrs []netip.Prefix) (netip.Addr, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	taken := make(map[netip.Addr]bool, len(s.records))
	for _, r := range s.records {
		taken[r.Address] = true
	}
	a, ok := podaddr.Next(cidrs, s.last, func(a netip.Addr) bool { return taken[a] })
	if ok {
		s.last = a
	}
	return a, ok
}

// owner is the name that a slot is given to.
func (s *Store) owner(slot uint32) (string, bool) {
	for _, r := range s.records {
		if r.Slot == slot {
			return r.Name, true
		}
	}
	for name, reserved := range s.reserved {
		if reserved == slot {
			return name, true
		}
	}
	return "", false
}

func (s *Store) write() error {
	data, err := json.MarshalIndent(file{Version: formatVersion, LastAddress: s.last, Endpoints: s.list()}, "", "  ")
	if err != nil {
		return err
	}
	return wholefile.Replace(s.path, append(data, '\n'), 0o640)
}
