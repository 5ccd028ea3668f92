package port

// Feature names something that not every driver can do. A driver exports the
// list of what it cannot; asking it for one of these is refused with an error
// that wraps ErrUnsupported.
type Feature string

// The features in which the drivers differ.
const (
	SharedUMEM Feature = "shared-umem" // frames go from device to device without a copy
	NeedWakeup Feature = "need-wakeup" // no system call unless the kernel asks for it
	ZeroCopy   Feature = "zero-copy"   // bind in zero-copy mode on purpose, and say if it is
	FillFirst  Feature = "fill-first"  // the fill ring has frames before the queue is bound
	HandOver   Feature = "hand-over"   // the UMEM can be given to another process
)
