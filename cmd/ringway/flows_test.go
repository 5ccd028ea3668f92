package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	pb "ringway/control/ringwayv1"
	"ringway/dataplane"
)

func TestGetFlowsFilter(t *testing.T) {
	n := &node{}
	serve(t, n)
	code, _, stderr := ringway(t, "get", "flows", "--endpoint", "default/pod2", "--protocol", "6", "--address", "10.200.0.3", "--port", "443", "--snat")
	want := []dataplane.FlowFilter{{Endpoint: "default/pod2", Protocol: "tcp", Address: netip.MustParseAddr("10.200.0.3"), Port: 443, SNAT: true}}
	if code != 0 || stderr != "" || !reflect.DeepEqual(n.listed, want) {
		t.Errorf("exit code %d, %q; the agent was asked for %+v, want %+v", code, stderr, n.listed, want)
	}
}

func TestGetFlowsThatFails(t *testing.T) {
	n := &node{listErr: errors.New("worker 1 does not answer")}
	serve(t, n)
	for _, format := range []string{"json", "yaml", "wide"} {
		code, stdout, stderr := ringway(t, "get", "flows", "-o", format)
		if code != 1 || stdout != "" || stderr != "ringway: worker 1 does not answer\n" {
			t.Errorf("-o %s: exit code %d, %q, %q", format, code, stdout, stderr)
		}
	}
	// Halfway people see what came; programs must not take it for the whole.
	var text, program bytes.Buffer
	for as, b := range map[output]*bytes.Buffer{"wide": &text, "json": &program} {
		sink, end := flowSink(b, as)
		if err := sink(&pb.Flow{Protocol: "tcp"}); err != nil {
			t.Fatal(err)
		}
		if err := end(n.listErr); !errors.Is(err, n.listErr) {
			t.Errorf("-o %s: %v", as, err)
		}
	}
	if strings.Count(text.String(), "\n") != 2 || json.Valid(program.Bytes()) {
		t.Errorf("got %q and %q", text.String(), program.String())
	}
}

// TestItemStream: items that are printed as they come are what is printed of
// all of them.
func TestItemStream(t *testing.T) {
	for _, count := range []int{0, 1, 3} {
		all := &pb.GetFlowsResponse{}
		for i := range count {
			all.Items = append(all.Items, &pb.Flow{
				Worker: uint32(i), Endpoint: "pod: \"1\"", Original: &pb.FlowTuple{Src: "10.200.0.3", SrcPort: 7},
				Expires: durationpb.New(1500 * time.Millisecond), OriginalBytes: 1 << 60,
			})
		}
		for _, as := range []output{"json", "yaml"} {
			var want, got bytes.Buffer
			if err := as.write(&want, all, nil); err != nil {
				t.Fatal(err)
			}
			sink, end := flowSink(&got, as)
			for _, f := range all.Items {
				if err := sink(f); err != nil {
					t.Fatal(err)
				}
			}
			if err := end(nil); err != nil {
				t.Fatal(err)
			}
			if got.String() != want.String() {
				t.Errorf("%d items as %s:\n%s\nwant:\n%s", count, as, got.String(), want.String())
			}
		}
	}
}

// TestRowStream: rows that are printed as they come are those of a table while
// the widths hold; then a column grows and keeps its new width.
func TestRowStream(t *testing.T) {
	for _, rows := range []int{0, 1, 2, sampleRows - 1, sampleRows, sampleRows + 1, 3 * sampleRows} {
		var want, got bytes.Buffer
		table, stream := newTable(&want, "", false, "A", "NAME", "B", "|", "C"), newRowStream(&got, false, "A", "NAME", "B", "|", "C")
		for i := range rows {
			cells := []any{strings.Repeat("ä", i%7), "x", i % 3, "wide"}
			table.row(cells...)
			if err := stream.row(cells...); err != nil {
				t.Fatal(err)
			}
		}
		if err := errors.Join(table.end(), stream.end()); err != nil {
			t.Fatal(err)
		}
		if got.String() != want.String() {
			t.Errorf("%d rows differ from the table's", rows)
		}
	}

	var b bytes.Buffer
	s := newRowStream(&b, true, "A", "|", "B")
	for range sampleRows {
		if err := s.row("x", "y"); err != nil {
			t.Fatal(err)
		}
	}
	if b.Len() == 0 {
		t.Error("nothing is printed after the sample")
	}
	if err := errors.Join(s.row("longer", "y"), s.row("x", "y"), s.end()); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(b.String(), "A   B\nx   y\n") || !strings.HasSuffix(b.String(), "x   y\nlonger   y\nx        y\n") {
		t.Errorf("got\n%s", b.String())
	}
}

func TestFlushFlows(t *testing.T) {
	n := &node{}
	serve(t, n)
	code, stdout, stderr := ringway(t, "flush", "flows", "--endpoint", "pod1")
	if code != 2 || stdout != "" || stderr != "ringway: 3 flows would be flushed: add --yes to do it\n" {
		t.Errorf("without --yes: exit code %d, %q, %q", code, stdout, stderr)
	}
	if len(n.flushed) != 0 || !reflect.DeepEqual(n.listed, []dataplane.FlowFilter{{Endpoint: "pod1"}}) {
		t.Errorf("the agent was asked to list %+v and flush %+v", n.listed, n.flushed)
	}
	code, stdout, stderr = ringway(t, "flush", "flows", "--protocol", "udp", "--port", "53", "--yes")
	if code != 0 || stdout != "3 flows flushed\n" || stderr != "" {
		t.Errorf("exit code %d, %q, %q", code, stdout, stderr)
	}
	code, stdout, stderr = ringway(t, "flush", "flows", "--yes", "-o", "json")
	if code != 0 || stdout != "{\n  \"flows\": \"3\"\n}\n" || stderr != "" {
		t.Errorf("exit code %d, %q, %q", code, stdout, stderr)
	}
	if want := []dataplane.FlowFilter{{Protocol: "udp", Port: 53}, {}}; !reflect.DeepEqual(n.flushed, want) {
		t.Errorf("the agent was asked to flush %+v, want %+v", n.flushed, want)
	}
}

func TestStatusWithoutMasquerading(t *testing.T) {
	serve(t, &node{off: true})
	_, stdout, _ := ringway(t, "status")
	if !strings.Contains(stdout, "\nMasquerading:  off: the table set has no masquerade section, or one with enabled: false; the ip-masq-agent file /etc/config/ip-masq-agent is not used\nPolicy:") {
		t.Errorf("got\n%s", stdout)
	}
}
