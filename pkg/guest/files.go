// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"context"
	"errors"
	"sync"

	"github.com/vmlet/vmlet/pkg/agentlink"
	"github.com/vmlet/vmlet/pkg/guest/vmagent"
	"github.com/vmlet/vmlet/pkg/vm"
	agentv1 "github.com/vmlet/vmlet/proto/agent/v1"
)

// copies is what vmlet-agent is needed for, in the words of errors.
const copies = "a copy of the host's files"

// maxChange bounds what the guest sends of one file.
const maxChange = agentlink.MaxMessage

// keepers keep the files of all guests in step. The zero value is ready for use.
type keepers struct {
	folders folderWatch

	mu sync.Mutex
	by map[string]*keeper
}

// KeepFiles copies the trees into the guest, returns, and keeps them in step until
// Disconnect. Called again, it takes over from the call before: after a reboot of the guest,
// say. FailedPrecondition for what is not there, or is nothing to copy, ResourceExhausted
// for what is too large.
func (g *Guest) KeepFiles(ctx context.Context, id, namespace string, trees []vm.FileTree) error {
	return wrap("copy files into the guest of", id, g.keepFiles(ctx, id, namespace, trees))
}

func (g *Guest) keepFiles(ctx context.Context, id, namespace string, trees []vm.FileTree) error {
	if err := g.need(ctx, id, copies); err != nil {
		return err
	}
	life, err := g.agents.Life(id)
	if err != nil {
		return err
	}
	g.files.take(id, nil)
	k, err := newKeeper(agentOf{g, id}, &g.files.folders, namespace, trees)
	if err != nil {
		return err
	}
	if err := k.step(ctx); err != nil {
		return errors.Join(err, k.close())
	}
	k.start(life) //nolint:contextcheck // it goes on when the caller has gone
	g.files.take(id, k)
	if life.Err() != nil { // Disconnect was quicker
		g.files.take(id, nil)
	}
	return nil
}

// FetchFiles brings what the guest has changed to the host now. Its error tells, too, why
// host and guest were not kept in step of late.
func (g *Guest) FetchFiles(ctx context.Context, id string) error {
	k := g.files.of(id)
	if k == nil {
		return nil
	}
	err := k.pull(ctx)
	k.mu.Lock()
	defer k.mu.Unlock()
	return wrap("fetch files of the guest of", id, errors.Join(err, k.problem))
}

// take replaces a guest's keeper, nil for none, and returns when the one before has ended.
func (k *keepers) take(id string, by *keeper) {
	k.mu.Lock()
	old := k.by[id]
	if k.by == nil {
		k.by = map[string]*keeper{}
	}
	if k.by[id] = by; by == nil {
		delete(k.by, id)
	}
	k.mu.Unlock()
	if old != nil {
		old.stop()
	}
}

func (k *keepers) of(id string) *keeper {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.by[id]
}

// agentOf is the agent of one guest.
type agentOf struct {
	g  *Guest
	id string
}

// send implements fileAgent.
func (a agentOf) send(ctx context.Context, req *agentv1.SyncFilesRequest, chunks []*agentv1.FileChunk) (err error) {
	st, err := a.g.call(ctx, a.id, copies, &agentv1.Request{Call: &agentv1.Request_SyncFiles{SyncFiles: req}})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	for _, c := range chunks {
		if err := st.Send(c); err != nil {
			// The agent may have refused the request, and say so.
			_, refusal := vmagent.Answer(st)
			return errors.Join(refusal, err)
		}
	}
	_, err = vmagent.Answer(st)
	return err
}

// watch implements fileAgent.
func (a agentOf) watch(ctx context.Context, paths []string) (fileChanges, error) {
	st, err := a.g.call(ctx, a.id, copies, &agentv1.Request{Call: &agentv1.Request_WatchFiles{
		WatchFiles: &agentv1.WatchFilesRequest{Paths: paths},
	}})
	if err != nil {
		return nil, err
	}
	if _, err := vmagent.Answer(st); err != nil {
		return nil, errors.Join(err, st.Close())
	}
	st.Limit(maxChange)
	return changesOf{st}, nil
}

type changesOf struct{ st *agentlink.Stream }

func (c changesOf) next() (*agentv1.FileChange, error) {
	change := &agentv1.FileChange{}
	return change, c.st.Receive(change)
}

func (c changesOf) close() error { return c.st.Close() }
