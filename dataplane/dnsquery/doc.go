// Package dnsquery knows the DNS queries in flight that a redirect sent to a local
// backend, so that each answer gets the address back that its client asked, and a
// query that the backend leaves unanswered can be asked upstream.
//
// A query is a record of its own, by client address and port, frontend address and
// port, and transaction ID (RFC 1035 4.1.1), and its answer frees it. So there are as
// many records as queries in flight, and not as many as clients have used ports for
// in the last minute, and a socket that asks for A and AAAA at once has two.
//
// A record lives in three stages:
//
//	waiting   [Table.Ask] has it, and the backend has some time to answer
//	refused   an ICMP error said that the backend will not
//	overdue   [Table.Due] gave it to the caller, who asked upstream; whoever answers
//	          first has answered, and after a longer time it is given up
//
// What was answered or given up is remembered for a moment, to tell an answer that
// comes late or twice from one that nobody asked for.
//
// All of it is bounded, because clients choose what has to be remembered: so many
// queries, so many of one endpoint. Nobody's query makes another one's be forgotten.
//
// A [Table] has one owner and no lock, and allocates nothing after [New]. [Samples]
// is the way of some queries to a reader off the path, who reads the names in them.
package dnsquery
