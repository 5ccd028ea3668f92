package natconf

import "slices"

// group is a part of the table.
type group struct {
	title        string
	file         string // where its requirements are
	requirements []requirement
}

var groups = []group{
	{"RFC 4787: UDP", "udp_test.go", rfc4787},
	{"RFC 5382: TCP", "tcp_test.go", rfc5382},
	{"RFC 5508: ICMP", "icmp_test.go", rfc5508},
	{"RFC 7857: updates to these", "updates_test.go", rfc7857},
	{"RFC 6888: carrier-grade NAT, with pods as its subscribers", "cgn_test.go", rfc6888},
	{"Beyond the RFCs", "attack_test.go", beyond},
}

// requirements is the whole table.
var requirements = slices.Concat(rfc4787, rfc5382, rfc5508, rfc7857, rfc6888, beyond)
