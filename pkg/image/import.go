// SPDX-License-Identifier: Apache-2.0

package image

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/vm"
)

// Import stores the disk that r yields, qcow2 or raw and not packed, under a name with or
// without a tag. It judges it as Pull does, and has Pull's errors. The end of ctx is seen
// between two reads of r. progress may be nil.
func (s *Store) Import(ctx context.Context, name string, r io.Reader, progress func(vm.PullProgress)) (vm.Image, error) {
	img, err := s.importDisk(ctx, name, r, progress)
	if err != nil {
		return vm.Image{}, fmt.Errorf("import %s: %w", name, err)
	}
	return img, nil
}

func (s *Store) importDisk(ctx context.Context, name string, r io.Reader, progress func(vm.PullProgress)) (vm.Image, error) {
	if progress == nil {
		progress = func(vm.PullProgress) {}
	}
	ref, err := parseReference(name)
	if err != nil {
		return vm.Image{}, err
	}
	if ref.digest != "" {
		return vm.Image{}, fmt.Errorf("an imported disk has no manifest, so its name cannot hold a digest: %w", errdefs.ErrInvalidArgument)
	}
	p, err := s.newPart("")
	if err != nil {
		return vm.Image{}, err
	}
	m := newMeter(progress, s.now, 0)
	if err := copyDisk(ctx, p, r, m); err != nil {
		return vm.Image{}, errors.Join(err, p.discard())
	}
	m.phase(phaseVerifying)
	img, err := s.commit(ctx, p, origin{name: ref})
	if err != nil {
		return vm.Image{}, err
	}
	m.phase(phaseDone)
	return img, nil
}

func copyDisk(ctx context.Context, p *part, r io.Reader, m *meter) error {
	buf := make([]byte, aheadChunk)
	for {
		n, err := r.Read(buf)
		if _, err := p.Write(buf[:n]); err != nil {
			return err
		}
		m.add(int64(n))
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err = errors.Join(err, context.Cause(ctx)); err != nil {
			return err
		}
	}
}
