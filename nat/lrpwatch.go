package nat

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"ringway/internal/filewatch"
)

// RedirectsUpdate is what a redirects file or directory has come to: all of its
// redirects, or why there are none, and then what was in force stays.
type RedirectsUpdate struct {
	Redirects []RedirectSpec
	Err       error
}

// WatchRedirects follows a file of manifests, or a directory and all files in it
// that end in .yaml, .yml or .json and do not begin with a dot. Together they are
// one thing: if one of them is wrong, none is taken. The channel gives what is
// there now, as the first update, and then each change of it; it is closed some
// time after ctx has ended. That nothing is at path is no error, at the start or
// later: there are no redirects then. A missing parent directory is, because its
// coming would go unseen.
func WatchRedirects(ctx context.Context, path string, log *slog.Logger) (<-chan RedirectsUpdate, error) {
	w, err := filewatch.New(path, log)
	if err != nil {
		return nil, fmt.Errorf("redirects: %w: make its directory or choose another path", err)
	}
	f := &redirectsPath{path: path}
	return follow(ctx, w, f.look), nil
}

// maxManifestBytes bounds a file: the biggest set of redirects is far below.
const maxManifestBytes = 16 << 20

type redirectsPath struct {
	path string

	looked bool
	last   []manifestFile
	failed string // why it could not be read
}

type manifestFile struct{ path, content string }

// look reads all there is.
func (f *redirectsPath) look() (u RedirectsUpdate, isNew bool) {
	files, err := readManifests(f.path)
	failed := ""
	if err != nil {
		failed = err.Error()
	}
	if f.looked && failed == f.failed && slices.Equal(files, f.last) {
		return RedirectsUpdate{}, false
	}
	f.looked, f.last, f.failed = true, files, failed
	if err != nil {
		return RedirectsUpdate{Err: fmt.Errorf("read the redirects: %w", err)}, true
	}
	specs, err := parseManifests(files)
	return RedirectsUpdate{Redirects: specs, Err: err}, true
}

// readManifests gives the files in the order of their names.
func readManifests(path string) ([]manifestFile, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		f, err := readManifest(path)
		return []manifestFile{f}, err
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, err
	}
	var files []manifestFile
	for _, e := range entries {
		if !isManifest(e.Name()) {
			continue
		}
		f, err := readManifest(filepath.Join(path, e.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			continue // gone since, or a link that leads nowhere yet
		}
		if err != nil {
			return nil, err
		}
		files = append(files, f)
	}
	return files, nil
}

func isManifest(name string) bool {
	return !strings.HasPrefix(name, ".") && slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(name))
}

func readManifest(path string) (manifestFile, error) {
	info, err := os.Stat(path)
	if err != nil {
		return manifestFile{}, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxManifestBytes {
		return manifestFile{}, fmt.Errorf("%s is no file of at most %d bytes", path, maxManifestBytes)
	}
	doc, err := os.ReadFile(path)
	return manifestFile{path, string(doc)}, err
}

func parseManifests(files []manifestFile) ([]RedirectSpec, error) {
	var specs []RedirectSpec
	var problems []error
	for _, f := range files {
		of, err := parseLRPs([]byte(f.content), f.path)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		specs = append(specs, of...)
	}
	if err := errors.Join(problems...); err != nil {
		return nil, err
	}
	if err := checkTogether(specs); err != nil {
		return nil, err
	}
	return specs, nil
}
