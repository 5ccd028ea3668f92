package sink

import "github.com/cilium/ebpf"

// Load is Attach without a device.
var Load = load

// Compared is how many bytes are compared of a frame of a length.
func Compared(length int) int {
	if length >= longHeader {
		return longHeader
	}
	return shortHeader
}

// Send runs the program over a frame as if it had come in that often.
func (s *Sink) Send(frame []byte, times int) error {
	_, err := s.objs.Sink.Run(&ebpf.RunOptions{Data: frame, Repeat: uint32(times)})
	return err
}
