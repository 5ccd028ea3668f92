package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	pb "ringway/control/ringwayv1"
)

// newCaptureCommand is ringway capture. It exists because tcpdump sees nothing
// of what AF_XDP sockets send and receive.
func newCaptureCommand() *cobra.Command {
	var to target
	var request pb.CaptureRequest
	var file string
	var count int
	c := &cobra.Command{
		Use:   "capture",
		Short: "Write the packets of ports as pcapng",
		Long: `Write the packets of ports as pcapng, until interrupted. Each port appears as two
interfaces, PORT-rx and PORT-tx.

  ringway capture | tshark -r -
  ringway capture --port eth0 -w eth0.pcapng -c 100`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if count < 0 {
				return usagef("-c %d is negative: leave it out for no end", count)
			}
			client, err := to.client()
			if err != nil {
				return err
			}
			defer client.Close()
			out, err := openCapture(file, c.OutOrStdout())
			if err != nil {
				return err
			}
			s := &captureSink{w: out, snapLen: request.GetSnapLen(), left: count}
			err = client.Capture(c.Context(), &request, s.packet)
			if err != nil && !errors.Is(err, errEnough) {
				return errors.Join(err, out.Close())
			}
			fmt.Fprintf(c.ErrOrStderr(), "%d packets captured\n", s.packets)
			return errors.Join(s.finish(), out.Close())
		},
	}
	f := c.Flags()
	f.StringVar(&request.Port, "port", "", "port or endpoint; all when left out")
	f.BoolVar(&request.Rx, "rx", false, "only what the port receives")
	f.BoolVar(&request.Tx, "tx", false, "only what the port transmits")
	f.StringVarP(&file, "write", "w", "", "file to write, - for the standard output (the default unless it is a terminal)")
	f.IntVarP(&count, "count", "c", 0, "stop after so many packets; 0: never")
	f.Uint32Var(&request.SnapLen, "snaplen", 0, "bytes to keep of each packet; 0: all")
	to.flags(c)
	return c
}

// openCapture opens where the packets go. Closing the standard output is not
// ours.
func openCapture(file string, stdout io.Writer) (io.WriteCloser, error) {
	if file != "" && file != "-" {
		f, err := os.Create(file)
		if err != nil {
			return nil, fmt.Errorf("write the capture: %w", err)
		}
		return f, nil
	}
	if f, ok := stdout.(*os.File); ok && file == "" && term.IsTerminal(int(f.Fd())) {
		return nil, usagef("the standard output is a terminal: name a file with -w, or pipe it into tshark -r -")
	}
	return nopCloser{stdout}, nil
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }

// errEnough ends a capture at its count.
var errEnough = errors.New("enough packets")

// captureSink writes packets as pcapng. A port and direction becomes an
// interface of the file when its first packet comes.
type captureSink struct {
	w       io.Writer
	snapLen uint32
	left    int // packets still wanted; 0: no end

	ng         *pcapgo.NgWriter
	interfaces map[string]int
	packets    int
}

func (s *captureSink) packet(p *pb.Packet) error {
	id, err := s.interfaceOf(p)
	if err != nil {
		return fmt.Errorf("write the capture: %w", err)
	}
	info := gopacket.CaptureInfo{
		Timestamp:      p.GetTime().AsTime(),
		CaptureLength:  len(p.GetData()),
		Length:         int(p.GetLength()),
		InterfaceIndex: id,
	}
	// Flushed at once, for a reader at the other end of a pipe.
	if err := errors.Join(s.ng.WritePacket(info, p.GetData()), s.ng.Flush()); err != nil {
		return fmt.Errorf("write the capture: %w", err)
	}
	s.packets++
	if s.packets == s.left {
		return errEnough
	}
	return nil
}

func (s *captureSink) interfaceOf(p *pb.Packet) (int, error) {
	name := p.GetPort() + "-tx"
	if p.GetReceived() {
		name = p.GetPort() + "-rx"
	}
	if id, ok := s.interfaces[name]; ok {
		return id, nil
	}
	if s.ng == nil {
		return 0, s.start(name)
	}
	id, err := s.ng.AddInterface(s.describe(name))
	s.interfaces[name] = id
	return id, err
}

// start writes the header, which cannot be without a first interface.
func (s *captureSink) start(name string) (err error) {
	s.ng, err = pcapgo.NewNgWriterInterface(s.w, s.describe(name), pcapgo.NgWriterOptions{
		SectionInfo: pcapgo.NgSectionInfo{Application: "ringway capture"},
	})
	s.interfaces = map[string]int{name: 0}
	return err
}

func (s *captureSink) describe(name string) pcapgo.NgInterface {
	return pcapgo.NgInterface{
		Name:                name,
		LinkType:            layers.LinkTypeEthernet,
		SnapLength:          s.snapLen,
		TimestampResolution: 9, // 10^-9 s
	}
}

// finish makes a valid file even of no packets at all.
func (s *captureSink) finish() error {
	if s.ng == nil {
		if err := s.start("none"); err != nil {
			return fmt.Errorf("write the capture: %w", err)
		}
	}
	if err := s.ng.Flush(); err != nil {
		return fmt.Errorf("write the capture: %w", err)
	}
	return nil
}
