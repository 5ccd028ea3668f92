// Package chain builds what a device under test is measured in: three network
// namespaces in a row,
//
//	generator --veth-- A  DUT  B --veth-- sink
//
// loads it, counts what arrives at the sink, and looks at samples of it.
package chain
