package pki

import (
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// writeNew makes a file (mode 0600) that is complete once it has its name, and
// fails with fs.ErrExist where something has that name.
func writeNew(path string, content []byte) error {
	return writeVia(path, content, func(temporary string) error {
		// A link, unlike a rename, replaces nothing.
		return errors.Join(os.Link(temporary, path), os.Remove(temporary))
	})
}

// replace makes a file (mode 0600), or replaces it in one step.
func replace(path string, content []byte) error {
	return writeVia(path, content, func(temporary string) error { return os.Rename(temporary, path) })
}

func writeVia(path string, content []byte, publish func(temporary string) error) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*") // mode 0600
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	_, err = f.Write(content)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", path, err), os.Remove(f.Name()))
	}
	if err := publish(f.Name()); err != nil {
		_ = os.Remove(f.Name()) // gone already where only its removal failed
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

func pemBlock(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}
