package lab

import (
	"encoding/json"
	"os/exec"
	"testing"
	"time"
)

// iperfReport is what is of interest in the JSON of iperf3.
type iperfReport struct {
	Start struct {
		Accepted struct {
			Host string `json:"host"`
		} `json:"accepted_connection"`
	} `json:"start"`
	End struct {
		Received struct {
			Bytes         float64 `json:"bytes"`
			BitsPerSecond float64 `json:"bits_per_second"`
		} `json:"sum_received"`
	} `json:"end"`
	Error string `json:"error"`
}

// TestIperf runs the tool that people measure with through SNAT, each way. How
// fast it is, is the benchmarks' business.
func TestIperf(t *testing.T) {
	l := agentLab(t, Options{})
	warmUp(t, l, "pod1", "ext")
	for name, way := range map[string][]string{"from the pod": nil, "to the pod": {"-R"}, "four at once": {"-P", "4"}} {
		server := startIperfServer(t, l)
		args := append([]string{"-c", l.Address("ext").String(), "-t", "1", "-J"}, way...)
		client := iperf(t, l.Command("pod1", "iperf3", args...))
		if client.End.Received.Bytes == 0 {
			t.Errorf("%s: nothing was received: %q", name, client.Error)
		}
		if seen := (<-server).Start.Accepted.Host; seen != l.Address("node1").String() {
			t.Errorf("%s: the server saw %q", name, seen)
		}
		t.Logf("%s: %.0f Mbit/s", name, client.End.Received.BitsPerSecond/1e6)
	}
	errors, err := l.checksumErrors("pod1", "ext")
	must(t, err)
	if errors != 0 {
		t.Errorf("%d packets came with a bad checksum", errors)
	}
}

// startIperfServer starts a server on ext that ends with its first client.
func startIperfServer(t *testing.T, l *Lab) <-chan iperfReport {
	t.Helper()
	report := make(chan iperfReport, 1)
	go func() { report <- iperf(t, l.Command("ext", "iperf3", "-s", "-1", "-J", "--idle-timeout", "10")) }()
	const listening = `[ -n "$(ss -Hltn sport = 5201)" ]`
	waitFor(t, "iperf3 listens", 5*time.Second, func() bool { return l.Command("ext", "sh", "-c", listening).Run() == nil })
	return report
}

// iperf runs iperf3 and reads what it prints, of which there is some also when it
// fails.
func iperf(t *testing.T, cmd *exec.Cmd) (r iperfReport) {
	out, err := cmd.Output()
	if jerr := json.Unmarshal(out, &r); jerr != nil {
		t.Errorf("iperf3: %v, %v: %q", err, jerr, out)
	}
	return r
}
