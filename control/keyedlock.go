package control

import "sync"

// keyedLock is a lock for each name.
type keyedLock struct {
	mu   sync.Mutex
	held map[string]chan struct{} // closed when given back
}

// lock waits for the name and returns what gives it back.
func (k *keyedLock) lock(name string) (unlock func()) {
	for {
		k.mu.Lock()
		held, ok := k.held[name]
		if !ok {
			break
		}
		k.mu.Unlock()
		<-held
	}
	defer k.mu.Unlock()
	if k.held == nil {
		k.held = map[string]chan struct{}{}
	}
	done := make(chan struct{})
	k.held[name] = done
	return func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		delete(k.held, name)
		close(done)
	}
}
