package responder

import "github.com/cilium/ebpf"

// Load is Attach without a device.
var Load = load

// Respond runs the program over a frame, and returns what it made of it and whether
// it sends that back.
func (r *Responder) Respond(frame []byte) (out []byte, sent bool, err error) {
	const redirect = 7 // TC_ACT_REDIRECT
	o := ebpf.RunOptions{Data: frame, DataOut: make([]byte, len(frame))}
	action, err := r.objs.Respond.Run(&o)
	return o.DataOut, action == redirect, err
}
