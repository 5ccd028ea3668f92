// Package wholefile writes files that are there whole or not at all: after a crash,
// of the machine too, there is the old content or the new.
package wholefile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Replace gives a file this content and mode, in one step if there is one already.
func Replace(path string, content []byte, mode fs.FileMode) error {
	return write(path, content, mode, func(temporary string) error { return os.Rename(temporary, path) })
}

// Create makes a file, and fails with fs.ErrExist where something has its name.
func Create(path string, content []byte, mode fs.FileMode) error {
	return write(path, content, mode, func(temporary string) error {
		// A link, unlike a rename, replaces nothing.
		return errors.Join(os.Link(temporary, path), os.Remove(temporary))
	})
}

func write(path string, content []byte, mode fs.FileMode, publish func(temporary string) error) error {
	temporary, err := writeTemporary(path, content, mode)
	if err == nil {
		err = publish(temporary)
	}
	if err == nil {
		return syncDirectory(filepath.Dir(path))
	}
	if temporary != "" {
		_ = os.Remove(temporary) // gone already where only its removal failed
	}
	return fmt.Errorf("write %s: %w", path, err)
}

// writeTemporary returns the name of a file beside path, where it made one.
func writeTemporary(path string, content []byte, mode fs.FileMode) (string, error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*") // mode 0600
	if err != nil {
		return "", err
	}
	_, err = f.Write(content)
	return f.Name(), errors.Join(err, f.Chmod(mode), f.Sync(), f.Close())
}

// syncDirectory has a new name survive a crash of the machine.
func syncDirectory(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
