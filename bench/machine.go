package bench

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Machine is what a figure must be quoted with.
type Machine struct {
	CPU    string    `json:"cpu"`
	CPUs   int       `json:"cpus"`
	Kernel string    `json:"kernel"`
	Arch   string    `json:"arch"`
	Date   time.Time `json:"date"`
	// StealPercent of all CPU time while measuring: what a hypervisor admits to
	// have taken away. 0 does not mean that it took nothing.
	StealPercent float64 `json:"steal_percent"`
	// LoadBefore is the one-minute load average at the start; the bench wants the
	// machine for itself.
	LoadBefore float64 `json:"load_before"`
}

func describeMachine() (Machine, error) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return Machine{}, fmt.Errorf("ask for the kernel's version: %w", err)
	}
	m := Machine{
		Kernel: unix.ByteSliceToString(u.Release[:]), Arch: unix.ByteSliceToString(u.Machine[:]),
		Date: time.Now().UTC().Truncate(time.Second),
	}
	info, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return Machine{}, fmt.Errorf("read the CPU model: %w", err)
	}
	for line := range strings.Lines(string(info)) {
		key, value, _ := strings.Cut(line, ":")
		switch strings.TrimSpace(key) {
		case "processor":
			m.CPUs++
		case "model name":
			m.CPU = strings.TrimSpace(value)
		}
	}
	load, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return Machine{}, fmt.Errorf("read the load average: %w", err)
	}
	first, _, _ := strings.Cut(string(load), " ")
	m.LoadBefore, err = strconv.ParseFloat(first, 64)
	if err != nil {
		return Machine{}, fmt.Errorf("read the load average: %w", err)
	}
	return m, nil
}

// cpuTime is the time of all CPUs since boot, in ticks.
type cpuTime struct{ total, steal uint64 }

// readCPUTime reads the first line of /proc/stat, proc(5).
func readCPUTime() (cpuTime, error) {
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		return cpuTime{}, fmt.Errorf("read CPU times: %w", err)
	}
	return parseCPUTime(string(stat))
}

func parseCPUTime(stat string) (cpuTime, error) {
	const steal, guest = 8, 9 // fields; guest time is part of user time already
	line, _, _ := strings.Cut(stat, "\n")
	fields := strings.Fields(line)
	if len(fields) <= steal || fields[0] != "cpu" {
		return cpuTime{}, fmt.Errorf("read CPU times: unexpected %q", fields)
	}
	var t cpuTime
	for i := 1; i < min(len(fields), guest); i++ {
		v, err := strconv.ParseUint(fields[i], 10, 64)
		if err != nil {
			return cpuTime{}, fmt.Errorf("read CPU times: %w", err)
		}
		t.total += v
		if i == steal {
			t.steal = v
		}
	}
	return t, nil
}

func (t cpuTime) stealPercentSince(before cpuTime) float64 {
	total := t.total - before.total
	if total == 0 {
		return 0
	}
	return 100 * float64(t.steal-before.steal) / float64(total)
}
