package lab

import (
	"fmt"
	"os"

	"sigs.k8s.io/yaml"
)

// Reconfigure rewrites the configuration of a host's agent, or controller, as edit
// leaves it, and starts that anew. Maps, slices and numbers are as encoding/json makes them.
func (l *Lab) Reconfigure(host string, edit func(config map[string]any)) error {
	if err := l.EditConfig(host, edit); err != nil {
		return err
	}
	if err := l.Stop(host); err != nil {
		return err
	}
	return l.Start(host)
}

// EditConfig rewrites the configuration of a host's agent, or controller, which reads
// it at its next start.
func (l *Lab) EditConfig(host string, edit func(config map[string]any)) error {
	if err := l.checkProgram(host); err != nil {
		return err
	}
	config := map[string]any{}
	data, err := os.ReadFile(l.Config(host))
	if err == nil {
		err = yaml.Unmarshal(data, &config)
	}
	if err != nil {
		return fmt.Errorf("read the configuration of %s: %w", host, err)
	}
	edit(config)
	return l.writeConfig(host, config)
}

func (l *Lab) writeConfig(host string, config map[string]any) error {
	data, err := yaml.Marshal(config)
	if err != nil {
		return fmt.Errorf("write the configuration of %s: %w", host, err)
	}
	return writeFile(l.Config(host), data)
}
