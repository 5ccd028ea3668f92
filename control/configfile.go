package control

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
)

// DecodeConfig reads the content of a configuration file over the defaults in
// into, a pointer to a struct whose fields all have json and doc tags. help is
// where its keys are explained. What is wrong is Problems; values are not looked
// at.
func DecodeConfig(doc []byte, into any, help string) error {
	out, err := decodeStrict(doc, structSchema(reflect.TypeOf(into).Elem()))
	if err != nil {
		return err
	}
	if err := json.Unmarshal(out, into); err != nil {
		return Problems{{"document", err.Error(), "see " + help}}
	}
	return nil
}

// WriteConfigFile writes c, a struct as DecodeConfig takes it, as a configuration
// file in which every key is explained. title is its first line.
func WriteConfigFile(w io.Writer, title string, c any) error {
	var b strings.Builder
	fmt.Fprintf(&b, "# %s\n", title)
	v := reflect.ValueOf(c)
	for i := range v.NumField() {
		f := v.Type().Field(i)
		fmt.Fprintf(&b, "\n# %s\n", f.Tag.Get("doc"))
		if uplinks, ok := v.Field(i).Interface().([]Uplink); ok {
			writeUplinks(&b, uplinks)
			continue
		}
		if f.Type.Kind() == reflect.Struct {
			fmt.Fprintf(&b, "%s:\n", f.Tag.Get("json"))
			writeFields(&b, "  ", "  ", v.Field(i).Interface())
			continue
		}
		if err := writeKey(&b, "", f.Tag.Get("json"), v.Field(i)); err != nil {
			return err
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// TLSFiles are the PEM files by which one side of a connection is known and knows
// the other. They are watched: new ones are used from then on, without a restart.
type TLSFiles struct {
	CA   string `json:"ca" doc:"Certificates of those who may issue the other side's."`
	Cert string `json:"cert" doc:"Our certificate, and what is between it and the other side's ca."`
	Key  string `json:"key" doc:"Its key."`
}

// Given tells whether any is.
func (f TLSFiles) Given() bool { return f != TLSFiles{} }

// Check adds what is wrong with the files at the key field. Where they are needed,
// all of them are; else all or none.
func (f TLSFiles) Check(ps *Problems, field string, needed bool) {
	if !needed && !f.Given() {
		return
	}
	for _, k := range []struct{ key, path string }{{"ca", f.CA}, {"cert", f.Cert}, {"key", f.Key}} {
		switch {
		case k.path == "":
			ps.add(field+"."+k.key, "missing", "give the PEM file; ringway pki makes one")
		case !filepath.IsAbs(k.path):
			ps.path(field+"."+k.key, k.path)
		}
	}
}

// Add appends a problem.
func (p *Problems) Add(field, reason, remedy string) { p.add(field, reason, remedy) }

// Err is p as an error, cut to a number that can be read; nil when there is none.
func (p Problems) Err() error { return p.err() }

// Name adds a problem unless s is an RFC 1123 name in lower case.
func (p *Problems) Name(field, s string) {
	if reason, remedy := nameProblem(s); reason != "" {
		p.add(field, reason, remedy)
	}
}

// Path adds a problem unless path is absolute.
func (p *Problems) Path(field, path string) { p.path(field, path) }

// Socket adds a problem unless path can be that of a unix socket.
func (p *Problems) Socket(field, path string) {
	p.path(field, path)
	if len(path) > maxSocketPath {
		p.add(field, fmt.Sprintf("the path has %d bytes", len(path)), fmt.Sprintf("keep to %d: the kernel takes no more", maxSocketPath))
	}
}

// HostPort adds a problem unless s is a host and a port to connect to.
func (p *Problems) HostPort(field, s string) {
	host, port, err := net.SplitHostPort(s)
	n, numErr := strconv.ParseUint(port, 10, 16)
	if err != nil || numErr != nil || host == "" || n == 0 {
		p.add(field, fmt.Sprintf("%q is not HOST:PORT", clip(s)), "write it as in 192.168.0.10:6650")
	}
}
