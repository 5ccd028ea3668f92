// Package conntrack is a worker's table of flows: who talks to whom, in which
// state, and until when the flow lives. It knows nothing of NAT but that the
// answers of a flow may have another tuple than the reverse of the first.
//
// # Memory
//
// A flow is one record of 128 bytes for both directions (record.go), in a file on
// a tmpfs that the process maps (memory_unsafe.go, file.go). A process that
// starts finds the flows of the one that died and goes on (recover.go). The index
// from tuples to records (hashindex) and the timing wheel (wheel.go) are made
// anew. A table for 2^20 flows takes 128 MiB of records and 32 MiB of index when
// it is full, and less than a megabyte when it is empty.
//
// # The life of a flow
//
//	Lookup, LookupBatch   finds it by a packet's tuple      table.go, batch.go
//	Create                makes it, within quota and limit  create.go, room.go
//	Update                moves it on with each packet      update.go, tcp.go
//	Tick                  ends it when its time has come    tick.go, wheel.go
//	Delete                ends it at once                   create.go
//
// Time is handed in, as nanoseconds since boot. One thread, the worker's, owns a
// table; only Limit is shared.
package conntrack
