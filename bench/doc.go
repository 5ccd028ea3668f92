// Package bench measures Ringway side by side with what it competes with.
//
// Each line of its table is one kind of work. All candidates for it stand ready
// at the same time, each in a chain of its own, and are loaded one after the
// other, round after round, so that a pair of figures is taken back to back:
// on a shared machine the same setup differs by tens of percent from one minute
// to the next, and only such pairs compare. docs/benchmarks.md has the protocol.
package bench
