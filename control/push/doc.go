// Package push brings table sets from controllers to nodes. A Server holds the set
// of its cluster and the changes of the last versions; a Follower keeps a node at
// the newest version. Between them goes one stream per node: Hello, then a push, its
// answer, the next push. At most one set of a node is unanswered, so a slow node
// holds up nobody and skips the versions that it has no time for.
//
// A set that a node refused is not sent to it again until its content is another.
// No node goes back: one that is ahead of its controller waits for it.
package push
