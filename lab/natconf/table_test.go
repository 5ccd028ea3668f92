package natconf

import "slices"

// requirements is the whole table.
var requirements = slices.Concat(rfc4787, rfc5382, rfc5508, rfc7857, rfc6888, beyond)
