package gen

// SetNext has the next frame be of a flow.
func (g *Generator) SetNext(flow uint32) error { return g.objs.NextFlow.Set(flow) }
