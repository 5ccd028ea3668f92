package push

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"google.golang.org/protobuf/proto"

	pb "ringway/control/ringwayv1"
	"ringway/control/tableset"
	"ringway/internal/wholefile"
)

// A state file is a line that names the format, the SHA-256 of the rest, and the
// rest: a full set as one Push.
const stateFormat = "ringway table set 1\n"

// maxStateFile bounds what is read at a start.
const maxStateFile = tableset.MaxBytes + tableset.MaxBytes/4

// goodSet is a set that is or was in force at the node. It is immutable.
type goodSet struct {
	cluster string // empty: nothing was ever in force
	version uint64
	set     *tableset.Set // nil: its content is not known, or not in force
}

// readState reads the last good set. None is no error, and has no cluster.
func readState(path string) (goodSet, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return goodSet{}, nil
	}
	if err != nil {
		return goodSet{}, fmt.Errorf("read the last set: %w", err)
	}
	if info.Size() > maxStateFile {
		return goodSet{}, fmt.Errorf("read the last set from %s: %d bytes are too many", path, info.Size())
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return goodSet{}, fmt.Errorf("read the last set: %w", err)
	}
	g, err := decodeState(data)
	if err != nil {
		return goodSet{}, fmt.Errorf("read the last set from %s: %w", path, err)
	}
	return g, nil
}

func decodeState(data []byte) (goodSet, error) {
	rest, ok := bytes.CutPrefix(data, []byte(stateFormat))
	if !ok || len(rest) < sha256.Size {
		return goodSet{}, errors.New("it is cut short, or of another format")
	}
	sum, body := rest[:sha256.Size], rest[sha256.Size:]
	if want := sha256.Sum256(body); !bytes.Equal(sum, want[:]) {
		return goodSet{}, errors.New("it is damaged: its checksum is wrong")
	}
	var p pb.Push
	if err := proto.Unmarshal(body, &p); err != nil {
		return goodSet{}, fmt.Errorf("decode it: %w", err)
	}
	var c pb.Changes
	if err := proto.Unmarshal(p.GetCommon(), &c); err != nil {
		return goodSet{}, fmt.Errorf("decode its resources: %w", err)
	}
	set, _, err := tableset.Apply(&tableset.Set{}, p.GetHash(), &c)
	if err != nil {
		return goodSet{}, err
	}
	if p.GetCluster() == "" || p.GetVersion() == 0 {
		return goodSet{}, errors.New("it names no cluster or no version")
	}
	return goodSet{p.GetCluster(), p.GetVersion(), set}, nil
}

// writeState leaves the old file or the new one, whatever happens meanwhile.
func writeState(path string, g goodSet) error {
	common, err := proto.Marshal(&pb.Changes{Upserts: upserts(g.set.Resources())})
	if err != nil {
		return fmt.Errorf("save the set: %w", err)
	}
	hash := g.set.Digest()
	body, err := proto.Marshal(&pb.Push{Cluster: g.cluster, Version: g.version, Common: common, Hash: hash[:], Last: true})
	if err != nil {
		return fmt.Errorf("save the set: %w", err)
	}
	sum := sha256.Sum256(body)
	data := append([]byte(stateFormat), sum[:]...)
	if err := wholefile.Replace(path, append(data, body...), 0o640); err != nil {
		return fmt.Errorf("save the set: %w", err)
	}
	return nil
}
