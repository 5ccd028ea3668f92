package natconf

func writeDocument(map[string]map[string]result) error { return nil }
