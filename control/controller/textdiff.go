package controller

import (
	"fmt"
	"strings"
)

const (
	diffContext = 3
	// maxDiffCells bounds the work on two texts; beyond it all that is between
	// their common ends counts as replaced.
	maxDiffCells = 4 << 20
)

// unifiedDiff is what diff -u would show; empty if the texts are equal. name stands
// in its head.
func unifiedDiff(name, before, after string) string {
	if before == after {
		return ""
	}
	lines := align(splitLines(before), splitLines(after))
	var b strings.Builder
	fmt.Fprintf(&b, "--- %s\n+++ %s\n", name, name)
	for _, h := range hunks(lines) {
		h.write(&b)
	}
	return b.String()
}

func splitLines(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(strings.TrimSuffix(s, "\n"), "\n")
}

// diffLine is one line of both texts (' '), of the first ('-') or of the second
// ('+').
type diffLine struct {
	sign byte
	text string
}

// align finds the longest common subsequence of lines.
func align(a, b []string) []diffLine {
	var head, tail []diffLine
	for len(a) > 0 && len(b) > 0 && a[0] == b[0] {
		head = append(head, diffLine{' ', a[0]})
		a, b = a[1:], b[1:]
	}
	for len(a) > 0 && len(b) > 0 && a[len(a)-1] == b[len(b)-1] {
		tail = append(tail, diffLine{' ', a[len(a)-1]})
		a, b = a[:len(a)-1], b[:len(b)-1]
	}
	out := append(head, alignMiddle(a, b)...)
	for i := range tail {
		out = append(out, tail[len(tail)-1-i])
	}
	return out
}

func alignMiddle(a, b []string) []diffLine {
	var out []diffLine
	i, j := 0, 0
	if (len(a)+1)*(len(b)+1) <= maxDiffCells {
		common := commonLengths(a, b)
		for i < len(a) && j < len(b) {
			switch {
			case a[i] == b[j]:
				out = append(out, diffLine{' ', a[i]})
				i, j = i+1, j+1
			case common[i+1][j] >= common[i][j+1]:
				out = append(out, diffLine{'-', a[i]})
				i++
			default:
				out = append(out, diffLine{'+', b[j]})
				j++
			}
		}
	}
	for ; i < len(a); i++ {
		out = append(out, diffLine{'-', a[i]})
	}
	for ; j < len(b); j++ {
		out = append(out, diffLine{'+', b[j]})
	}
	return out
}

// commonLengths has at [i][j] how long the longest common subsequence of a[i:] and
// b[j:] is.
func commonLengths(a, b []string) [][]int32 {
	out := make([][]int32, len(a)+1)
	for i := range out {
		out[i] = make([]int32, len(b)+1)
	}
	for i := len(a) - 1; i >= 0; i-- {
		for j := len(b) - 1; j >= 0; j-- {
			if a[i] == b[j] {
				out[i][j] = out[i+1][j+1] + 1
			} else {
				out[i][j] = max(out[i+1][j], out[i][j+1])
			}
		}
	}
	return out
}

// hunk is a change with the lines around it. The numbers are of its first lines.
type hunk struct {
	before, after int
	lines         []diffLine
}

// hunks leaves out what is farther than diffContext from a change.
func hunks(lines []diffLine) []hunk {
	var out []hunk
	before, after := 1, 1
	last := -2*diffContext - 2 // index of the change before
	for i, l := range lines {
		if l.sign != ' ' {
			from := max(0, i-diffContext)
			if i-last > 2*diffContext+1 || len(out) == 0 {
				out = append(out, hunk{before: before - countOf(lines[from:i], '-', ' '), after: after - countOf(lines[from:i], '+', ' ')})
			} else {
				from = last + 1
			}
			h := &out[len(out)-1]
			h.lines = append(h.lines, lines[from:i+1]...)
			last = i
		}
		if l.sign != '+' {
			before++
		}
		if l.sign != '-' {
			after++
		}
		if next := nextChange(lines, i+1); l.sign != ' ' && next-i > 2*diffContext+1 {
			h := &out[len(out)-1]
			h.lines = append(h.lines, lines[i+1:min(i+1+diffContext, len(lines))]...)
		}
	}
	return out
}

// nextChange is the index of the next line that is not in both; far behind the end
// if there is none.
func nextChange(lines []diffLine, from int) int {
	for i := from; i < len(lines); i++ {
		if lines[i].sign != ' ' {
			return i
		}
	}
	return len(lines) + 2*diffContext + 2
}

func countOf(lines []diffLine, signs ...byte) int {
	n := 0
	for _, l := range lines {
		for _, s := range signs {
			if l.sign == s {
				n++
			}
		}
	}
	return n
}

func (h hunk) write(b *strings.Builder) {
	before, after := countOf(h.lines, '-', ' '), countOf(h.lines, '+', ' ')
	// A side without lines is told by the line before it.
	if before == 0 {
		h.before--
	}
	if after == 0 {
		h.after--
	}
	fmt.Fprintf(b, "@@ -%d,%d +%d,%d @@\n", h.before, before, h.after, after)
	for _, l := range h.lines {
		fmt.Fprintf(b, "%c%s\n", l.sign, l.text)
	}
}
