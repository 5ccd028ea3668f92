package pki

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"math/big"
	"os"
	"strings"
	"sync"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"ringway/internal/filewatch"
)

// Denylist is a file of certificates that are let in no more though they are
// valid, followed as it changes: on each line the SPIFFE ID of one who is shut
// out with all certificates, or the serial number (hexadecimal) of one. # begins
// a comment.
type Denylist struct {
	path string
	log  *slog.Logger
	stop context.CancelFunc
	done sync.WaitGroup

	mu      sync.RWMutex
	denied  map[string]bool // SPIFFE IDs and serial numbers
	problem error           // why what the file holds is not in force
	changed func()          // called after each change; nil: nobody asked
}

// OpenDenylist reads the file at path, which must exist and be right: to go
// without it would let everybody in. Later, what is wrong changes nothing.
func OpenDenylist(path string, log *slog.Logger) (*Denylist, error) {
	w, err := filewatch.New(path, log)
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithCancel(context.Background())
	d := &Denylist{path: path, log: log, stop: stop}
	d.look()
	d.done.Go(func() { w.Run(ctx, d.look) })
	if err := d.Err(); err != nil {
		d.Close()
		return nil, err
	}
	return d, nil
}

// Close stops following the file.
func (d *Denylist) Close() error {
	d.stop()
	d.done.Wait()
	return nil
}

// Err is why what the file holds is not in force; nil: it is.
func (d *Denylist) Err() error {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.problem
}

// denies tells whether the list has the identity or the serial number. Without
// a list nobody is denied.
func (d *Denylist) denies(id Identity, serial string) bool {
	if d == nil {
		return false
	}
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.denied[id.String()] || d.denied[serial]
}

// onChange has f called after each change of the list.
func (d *Denylist) onChange(f func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.changed = f
}

func (d *Denylist) look() {
	if changed := d.read(); changed != nil {
		changed()
	}
}

// read puts the file in force, and returns whom to tell.
func (d *Denylist) read() (changed func()) {
	doc, err := os.ReadFile(d.path)
	if err != nil {
		err = fmt.Errorf("read the denylist: %w: put the file there, if only an empty one", err)
	}
	var denied map[string]bool
	if err == nil {
		denied, err = parseDenylist(doc)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err != nil {
		if d.problem == nil || d.problem.Error() != err.Error() {
			d.log.Warn("the denylist is not put in force", "file", d.path, "err", err)
		}
		d.problem = err
		return nil
	}
	d.problem = nil
	if d.denied != nil && maps.Equal(d.denied, denied) {
		return nil // something else in its directory has changed: perhaps our own log
	}
	d.denied = denied
	d.log.Info("the denylist is in force", "file", d.path, "entries", len(denied))
	return d.changed
}

func parseDenylist(doc []byte) (map[string]bool, error) {
	out := map[string]bool{}
	lines := bufio.NewScanner(bytes.NewReader(doc))
	for n := 1; lines.Scan(); n++ {
		line, _, _ := strings.Cut(lines.Text(), "#")
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		entry, ok := parseDenied(line)
		if !ok {
			return nil, fmt.Errorf("denylist, line %d: %q is neither: write spiffe://DOMAIN/ROLE/NAME, or a serial number in hexadecimal", n, line)
		}
		out[entry] = true
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("denylist: %w: keep lines short", err)
	}
	return out, nil
}

// parseDenied takes a serial number as openssl writes it, too: in capitals, with
// colons and leading zeros.
func parseDenied(s string) (string, bool) {
	if strings.HasPrefix(s, "spiffe://") {
		id, err := spiffeid.FromString(s)
		return id.String(), err == nil
	}
	n, ok := new(big.Int).SetString(strings.ReplaceAll(s, ":", ""), 16)
	if !ok || n.Sign() <= 0 {
		return "", false
	}
	return hexSerial(n), true
}
