package lab

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// Counters reads a host's kernel counters, named as nstat names them, such as
// UdpInCsumErrors or TcpExtTCPTimeouts. They count from the making of the
// namespace.
func (l *Lab) Counters(host string) (map[string]uint64, error) {
	all := map[string]uint64{}
	err := l.Do(host, func() error {
		// Not /proc/net: that is the view of the process's first thread.
		for _, file := range []string{"/proc/thread-self/net/snmp", "/proc/thread-self/net/netstat"} {
			data, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			if err := parseCounters(string(data), all); err != nil {
				return fmt.Errorf("%s: %w", file, err)
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the counters of %s: %w", host, err)
	}
	return all, nil
}

// parseCounters reads pairs of lines: names, then values, both after the same
// group name.
func parseCounters(text string, into map[string]uint64) error {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	for i := 0; i+1 < len(lines); i += 2 {
		names, values := strings.Fields(lines[i]), strings.Fields(lines[i+1])
		if len(names) == 0 || len(names) != len(values) || names[0] != values[0] {
			return fmt.Errorf("line %d does not fit line %d", i+2, i+1)
		}
		group := strings.TrimSuffix(names[0], ":")
		for j := 1; j < len(names); j++ {
			v, err := strconv.ParseInt(values[j], 10, 64) // Tcp MaxConn is -1
			if err != nil {
				if u, uerr := strconv.ParseUint(values[j], 10, 64); uerr == nil {
					into[group+names[j]] = u
					continue
				}
				return fmt.Errorf("line %d: %w", i+2, err)
			}
			into[group+names[j]] = uint64(v)
		}
	}
	return nil
}

// checksumCounters count what a receiver threw away for its checksum.
var checksumCounters = []string{"IpExtInCsumErrors", "IcmpInCsumErrors", "TcpInCsumErrors", "UdpInCsumErrors"}

// ChecksumErrors sums what a host's kernel dropped for a bad checksum.
func (l *Lab) ChecksumErrors(host string) (uint64, error) {
	all, err := l.Counters(host)
	if err != nil {
		return 0, err
	}
	var sum uint64
	for _, name := range checksumCounters {
		sum += all[name]
	}
	return sum, nil
}
