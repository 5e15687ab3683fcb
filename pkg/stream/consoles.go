// SPDX-License-Identifier: Apache-2.0

package stream

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/keylock"
	"github.com/vmlet/vmlet/pkg/vm"
)

// ConsoleOptions are the settings of Consoles. The zero value is fit for use.
type ConsoleOptions struct {
	// SpoolCap is how many bytes of one console may wait for its log before the oldest
	// are given up; 16 MiB if 0.
	SpoolCap int64
	// OnError is told when copying a console runs into trouble, again when the trouble
	// changes, and with a nil error when it is over. Copying is tried again by itself.
	// It must not block. nil for nobody.
	OnError func(containerID string, err error)
}

// Consoles copies serial consoles from their spools into CRI log files; the package
// comment says how. It is safe for concurrent use. It implements lifecycle.Consoles.
type Consoles struct {
	options ConsoleOptions
	limits  limits
	kernel  kernel
	now     func() time.Time

	// locks hold a console's key over everything that is done to it.
	locks keylock.Locks
	// life ends with Close: copying in the background hangs on it.
	life context.Context //nolint:containedctx // the Consoles' own life, not a request's
	end  context.CancelFunc
	work sync.WaitGroup
	// slots bound how many consoles are copied at once, and with that their buffers.
	slots   chan struct{}
	buffers sync.Pool

	mu       sync.Mutex
	closed   bool
	watcher  *watcher             // nil until the first console
	followed map[string]*followed // by keyOf
}

const (
	defaultSpoolCap = 16 << 20
	punchStep       = 256 << 10
	partialAfter    = time.Second
	clientLag       = 4 << 20
	stalledAfter    = 15 * time.Second
	// QEMU looks once a second whether somebody has a terminal open, and reads nothing from
	// it until then.
	linger = 2500 * time.Millisecond
	atOnce = 8
)

// NewConsoles returns Consoles that follow nothing yet.
func NewConsoles(options ConsoleOptions) *Consoles {
	if options.SpoolCap == 0 {
		options.SpoolCap = defaultSpoolCap
	}
	if options.OnError == nil {
		options.OnError = func(string, error) {}
	}
	life, end := context.WithCancel(context.Background()) //nolint:forbidigo // Close ends it
	return &Consoles{
		options: options,
		limits: limits{
			spoolCap: options.SpoolCap, punchStep: punchStep, partialAfter: partialAfter,
			clientLag: clientLag, stalledAfter: stalledAfter, linger: linger,
		},
		kernel: realKernel(),
		now:    time.Now,
		life:   life, end: end,
		slots:    make(chan struct{}, atOnce),
		followed: map[string]*followed{},
	}
}

// Follow begins to copy a console, or goes on with it after a restart. Idempotent. It
// is NotFound if there is no spool, and an error if copying begins with a log that
// cannot be opened (its folder is made); once it has begun, trouble with the log is
// reported to OnError.
func (cs *Consoles) Follow(ctx context.Context, c vm.Console) error {
	unlock, err := cs.locks.Lock(ctx, keyOf(c))
	if err != nil {
		return err
	}
	defer unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	if cs.lookup(keyOf(c)) != nil {
		return nil
	}
	if err := cs.begin(c); err != nil {
		return fmt.Errorf("follow the console of container %s: %w", c.ContainerID, err)
	}
	cs.kick(keyOf(c))
	return nil
}

// begin opens a console and has it watched.
func (cs *Consoles) begin(c vm.Console) error {
	con, err := openConsole(c, cs.kernel, cs.limits, cs.now)
	if err != nil {
		return err
	}
	f := &followed{console: con}
	if con.fresh() && c.Log != "" {
		// kubelet makes the folder, others who speak CRI may not. Only the first time: a
		// folder that is removed later was removed by somebody.
		err := os.MkdirAll(filepath.Dir(c.Log), 0o755) //nolint:gosec // as kubelet's: log collectors read it
		if err == nil {
			err = con.openLog()
		}
		if err != nil {
			return errors.Join(err, con.close(), removeFile(c.Checkpoint))
		}
	}
	if err := cs.register(f); err != nil {
		return errors.Join(err, con.close())
	}
	return nil
}

// Reopen opens the log file anew by its path, made if need be, after somebody renamed
// it; the renamed one gets nothing more. NotFound if the container is not followed.
// On any other error the log is the same as before.
func (cs *Consoles) Reopen(ctx context.Context, containerID string) error {
	f, unlock, err := cs.lockHeard(ctx, containerID)
	if err != nil {
		return err
	}
	defer unlock()
	if err := f.reopen(); err != nil {
		return fmt.Errorf("reopen the log of container %s: %w", containerID, err)
	}
	f.retryNow()
	cs.kick(keyOf(f.Console))
	return nil
}

// Finish copies what is left in the spool, ends the last line, closes the log and
// removes spool and checkpoint. It is for a VM that has ended. Idempotent, also for a
// console that was never followed. Unavailable if the log cannot be written: nothing is
// removed then, and it can be called again. If the log's folder is gone, nobody can
// want the rest: it is dropped.
func (cs *Consoles) Finish(ctx context.Context, c vm.Console) error {
	unlock, err := cs.locks.Lock(ctx, keyOf(c))
	if err != nil {
		return err
	}
	defer unlock()
	if err := cs.finish(ctx, c); err != nil {
		return fmt.Errorf("finish the console of container %s: %w", c.ContainerID, err)
	}
	return nil
}

func (cs *Consoles) finish(ctx context.Context, c vm.Console) error {
	f := cs.lookup(keyOf(c))
	if f == nil {
		// It never was followed, is finished already, or vmlet was restarted since.
		info, err := os.Stat(c.Spool)
		if errors.Is(err, fs.ErrNotExist) || err == nil && info.Size() == 0 {
			return removeFiles(c)
		}
		con, err := openConsole(c, cs.kernel, cs.limits, cs.now)
		if err != nil {
			return err
		}
		f = &followed{console: con}
	}
	err := cs.withBuffers(ctx, func(b *buffers) error {
		// Nobody who is attached waits for a log that cannot be written.
		err := f.publish()
		f.audience.end(err)
		return errors.Join(err, f.copy(ctx, b, true))
	})
	if trouble := f.takeTrouble(); trouble != nil {
		cs.options.OnError(c.ContainerID, trouble)
	}
	if err != nil && !folderGone(c.Log) {
		if cs.lookup(keyOf(c)) == nil {
			err = errors.Join(err, f.close())
		}
		if ctx.Err() == nil {
			err = fmt.Errorf("%w: %w", errdefs.ErrUnavailable, err)
		}
		return err
	}
	return errors.Join(cs.forget(f), f.close(), removeFiles(c))
}

// Close stops following without finishing anything: VMs go on, and what they print
// waits in the spools for the next start.
func (cs *Consoles) Close() error {
	cs.mu.Lock()
	cs.closed = true
	w := cs.watcher
	cs.watcher = nil
	cs.mu.Unlock()
	cs.end()
	var errs []error
	if w != nil {
		errs = append(errs, w.close())
	}
	cs.work.Wait()
	for _, f := range cs.all() {
		errs = append(errs, cs.abandon(f))
	}
	return errors.Join(errs...)
}

// removeFiles removes the spool first: a checkpoint without a spool means that there is
// nothing left to do, a spool without a checkpoint would be copied again.
func removeFiles(c vm.Console) error {
	if err := removeFile(c.Spool); err != nil {
		return err
	}
	return removeFile(c.Checkpoint)
}

func removeFile(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// folderGone tells whether there is no place for a log any more.
func folderGone(log string) bool {
	_, err := os.Stat(filepath.Dir(log))
	return errors.Is(err, fs.ErrNotExist)
}
