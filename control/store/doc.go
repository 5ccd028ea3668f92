// Package store keeps the state of the control plane in etcd, through etcd's own
// client, and every controller's copy of it in memory.
//
// One key, the version key, is compared and put by every transaction that changes
// the state. Its ModRevision is the version of the state, so versions are the same
// for every controller, each change is decided on exactly the state that it
// changes, and of two that race the loser decides anew. docs/etcd.md says what is
// kept where and what happens when etcd fails.
package store
