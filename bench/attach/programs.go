package main

import (
	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
)

// The offsets in struct xdp_md.
const (
	ctxData    = 0
	ctxDataEnd = 4
	ctxIngress = 12
)

// The offsets in struct __sk_buff.
const (
	skbData    = 76
	skbDataEnd = 80
)

// toSocket redirects to the AF_XDP socket of the frame's device.
func toSocket(xsks *ebpf.Map) asm.Instructions {
	return asm.Instructions{
		asm.LoadMem(asm.R2, asm.R1, ctxIngress, asm.Word),
		asm.LoadMapPtr(asm.R1, xsks.FD()),
		asm.Mov.Imm(asm.R3, xdpDrop),
		asm.FnRedirectMap.Call(),
		asm.Return(),
	}
}

// header loads the frame's start, of which the context tells at offsets data
// and end, into R7 and goes to "drop" if there is no whole Ethernet header. It
// leaves the context in R6.
func header(data, end int16) asm.Instructions {
	return asm.Instructions{
		asm.Mov.Reg(asm.R6, asm.R1),
		asm.LoadMem(asm.R7, asm.R6, data, asm.Word),
		asm.LoadMem(asm.R3, asm.R6, end, asm.Word),
		asm.Mov.Reg(asm.R4, asm.R7),
		asm.Add.Imm(asm.R4, 14),
		asm.JGT.Reg(asm.R4, asm.R3, "drop"),
	}
}

func drop(verdict int32) asm.Instructions {
	return asm.Instructions{asm.Mov.Imm(asm.R0, verdict).WithSymbol("drop"), asm.Return()}
}

// toTrunk stamps the source address with that of the device's slot, out of the
// hash macs by ifindex, and redirects to the one device in trunk.
func toTrunk(macs, trunk *ebpf.Map) asm.Instructions {
	code := append(header(ctxData, ctxDataEnd),
		asm.LoadMem(asm.R2, asm.R6, ctxIngress, asm.Word),
		asm.StoreMem(asm.RFP, -4, asm.R2, asm.Word),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, -4),
		asm.LoadMapPtr(asm.R1, macs.FD()),
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, "drop"),
		asm.LoadMem(asm.R1, asm.R0, 0, asm.Half),
		asm.StoreMem(asm.R7, 6, asm.R1, asm.Half),
		asm.LoadMem(asm.R1, asm.R0, 2, asm.Half),
		asm.StoreMem(asm.R7, 8, asm.R1, asm.Half),
		asm.LoadMem(asm.R1, asm.R0, 4, asm.Half),
		asm.StoreMem(asm.R7, 10, asm.R1, asm.Half),
		asm.LoadMapPtr(asm.R1, trunk.FD()),
		asm.Mov.Imm(asm.R2, 0),
		asm.Mov.Imm(asm.R3, xdpDrop),
		asm.FnRedirectMap.Call(),
		asm.Return(),
	)
	return append(code, drop(xdpDrop)...)
}

// toSlot redirects to the device of the slot that the destination address names.
func toSlot(slots *ebpf.Map) asm.Instructions {
	code := append(header(ctxData, ctxDataEnd),
		asm.LoadMem(asm.R2, asm.R7, 2, asm.Word), // 57 and the slot, big endian
		asm.HostTo(asm.BE, asm.R2, asm.Word),
		asm.And.Imm(asm.R2, 0xffffff),
		asm.LoadMapPtr(asm.R1, slots.FD()),
		asm.Mov.Imm(asm.R3, xdpDrop),
		asm.FnRedirectMap.Call(),
		asm.Return(),
	)
	return append(code, drop(xdpDrop)...)
}

// toPeer is toSlot for tc: to the other end of the slot's device, in whatever
// namespace that is.
func toPeer(slots *ebpf.Map) asm.Instructions {
	code := append(header(skbData, skbDataEnd),
		asm.LoadMem(asm.R2, asm.R7, 2, asm.Word),
		asm.HostTo(asm.BE, asm.R2, asm.Word),
		asm.And.Imm(asm.R2, 0xffffff),
		asm.StoreMem(asm.RFP, -4, asm.R2, asm.Word),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, -4),
		asm.LoadMapPtr(asm.R1, slots.FD()),
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, "drop"),
		asm.LoadMem(asm.R1, asm.R0, 0, asm.Word),
		asm.Mov.Imm(asm.R2, 0),
		asm.FnRedirectPeer.Call(),
		asm.Return(),
	)
	return append(code, drop(tcxDrop)...)
}
