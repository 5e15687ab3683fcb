// SPDX-License-Identifier: Apache-2.0

package streaming

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/containerd/errdefs"
)

const (
	// promiseLife is how long a URL may be opened after it was given out. kubelet does so
	// at once; the CRI leaves the time to the runtime.
	promiseLife = time.Minute
	// maxPromises is how many URLs may wait for their client.
	maxPromises = 1000
)

// promises are the streams that were asked for, by the path under which a client gets each,
// once. Safe for concurrent use.
type promises struct {
	now func() time.Time

	mu     sync.Mutex
	byPath map[string]promise
}

type promise struct {
	serve   http.HandlerFunc
	expires time.Time
}

func newPromises(now func() time.Time) *promises {
	return &promises{now: now, byPath: map[string]promise{}}
}

// make returns the path under which serve is called once. The path is the only proof that
// a client is who asked, so it cannot be guessed. ResourceExhausted if too many wait.
func (p *promises) make(kind string, serve http.HandlerFunc) (path string, err error) {
	token := make([]byte, 16)
	_, _ = rand.Read(token) // it never fails, says crypto/rand
	path = "/" + kind + "/" + base64.RawURLEncoding.EncodeToString(token)
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	for old, kept := range p.byPath {
		if now.After(kept.expires) {
			delete(p.byPath, old)
		}
	}
	if len(p.byPath) >= maxPromises {
		return "", fmt.Errorf("%d streams were asked for and wait for their clients: %w", maxPromises, errdefs.ErrResourceExhausted)
	}
	p.byPath[path] = promise{serve, now.Add(promiseLife)}
	return path, nil
}

// keep takes out what was promised under a path; nil for nothing, or not any more.
func (p *promises) keep(path string) http.HandlerFunc {
	p.mu.Lock()
	defer p.mu.Unlock()
	kept, ok := p.byPath[path]
	delete(p.byPath, path)
	if !ok || p.now().After(kept.expires) {
		return nil
	}
	return kept.serve
}
