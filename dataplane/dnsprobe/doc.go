// Package dnsprobe asks DNS servers whether they are alive: each of them a query in
// each interval, over UDP from the node's own stack. It keeps no state of theirs:
// what a good or bad answer means is the caller's.
package dnsprobe
