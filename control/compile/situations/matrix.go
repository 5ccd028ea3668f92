package situations

import (
	"fmt"
	"strings"
)

// letters stand for the kinds of probes in a matrix, in their order.
const letters = "84DSI"

// Legend explains a matrix.
const Legend = "from each row to each column: 8 TCP 80, 4 TCP 443, D UDP 53, S SCTP 9, I ICMP echo; - stopped"

// Matrix is what passes as a table for people.
func Matrix(passes map[Probe]bool) (string, error) {
	_, pods, err := Cluster()
	if err != nil {
		return "", err
	}
	var b strings.Builder
	b.WriteString("  ")
	for _, to := range pods {
		fmt.Fprintf(&b, " %-5s", to.Name)
	}
	for _, from := range pods {
		fmt.Fprintf(&b, "\n%s", from.Name)
		for _, to := range pods {
			fmt.Fprintf(&b, " %-5s", cell(passes, from.Name, to.Name))
		}
	}
	lines := strings.Split(b.String(), "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	return strings.Join(lines, "\n") + "\n", nil
}

func cell(passes map[Probe]bool, from, to string) string {
	if from == to {
		return "."
	}
	cell := []byte(letters)
	for i, k := range kinds {
		if !passes[Probe{from, to, k.Protocol, k.Port}] {
			cell[i] = '-'
		}
	}
	return string(cell)
}
