package compile

// Policies are the identities, ascending, of whose KeyPolicy resources the node gets
// one.
func (c *Compiler) Policies(node string) []uint32 {
	s := c.state.Load()
	var out []uint32
	for _, id := range s.needs.at(node) {
		if s.rules.has(id) {
			out = append(out, id)
		}
	}
	return out
}
