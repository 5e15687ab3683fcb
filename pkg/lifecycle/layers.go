// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"slices"

	"github.com/vmlet/vmlet/pkg/vm"
)

// Disks, snapshots and images are held together by layers:
//
//	image <- layer <- layer <- disk            the guest writes here
//	           |        |
//	           |        `----- snapshot "b"
//	           |`---- layer <- (snapshot "c")   a branch that a restore has left
//	           `-------------- snapshot "a"
//
// A data disk whose file is ours has layers in the same way, but for the image: nothing is below the first of them.
//
// Taking a snapshot makes the disk a layer and puts a new disk on it. Restoring one puts a new disk on its layer. A layer
// whose snapshot is gone is removed if nothing is on it, merged if one thing is, and kept if more are.

// layerByID finds a layer.
func layerByID(t vm.DiskTree, id string) (vm.Layer, bool) {
	i := slices.IndexFunc(t.Layers, func(l vm.Layer) bool { return l.ID == id })
	if i < 0 {
		return vm.Layer{}, false
	}
	return t.Layers[i], true
}

// backingOf lists the files below a root disk, nearest first.
func backingOf(t vm.DiskTree, d vm.Disk) []vm.BackingFile {
	return append(layersFrom(t, d.Layer), vm.BackingFile{Path: d.Backing, Format: d.BackingFormat})
}

// layersFrom lists the files of a layer and of those below it.
func layersFrom(t vm.DiskTree, id string) (files []vm.BackingFile) {
	for l, ok := layerByID(t, id); ok; l, ok = layerByID(t, l.Parent) {
		files = append(files, vm.BackingFile{Path: l.Path, Format: vm.FormatQCOW2})
	}
	return files
}

// belowLayer is the file right below a layer: its path is "" where none is, under a data disk.
func belowLayer(t vm.DiskTree, l vm.Layer) vm.BackingFile {
	if parent, ok := layerByID(t, l.Parent); ok {
		return vm.BackingFile{Path: parent.Path, Format: vm.FormatQCOW2}
	}
	return vm.BackingFile{Path: l.Backing, Format: l.BackingFormat}
}

// overLayer is a disk with a new file on a layer.
func overLayer(d vm.Disk, l vm.Layer, path string) vm.Disk {
	d.Path, d.Layer, d.Size = path, l.ID, l.Size
	return d
}

// onLayer is the disk as CreateRoot is to make it: with the file right below in the place of the image.
func onLayer(t vm.DiskTree, d vm.Disk) vm.Disk {
	below := backingOf(t, d)[0]
	d.Backing, d.BackingFormat = below.Path, below.Format
	return d
}

// layerWork is one step of making the tree of layers small again: layer is not needed for itself.
type layerWork struct {
	layer vm.Layer
	// disk, by its file, or child is the one thing that is on it; without either nothing is, and it can go.
	disk  string
	child *vm.Layer
	// beside are the files that are on child, and that its content must stay under.
	beside []string
}

// sameAs tells whether it is the same work: a data disk that was on the layer may have been deleted since.
func (w layerWork) sameAs(other layerWork) bool {
	return w.layer == other.layer && w.disk == other.disk && (w.child == nil) == (other.child == nil)
}

// nextLayerWork finds what is to be done next. Pure.
func nextLayerWork(t vm.DiskTree) (layerWork, bool) {
	needed := map[string]bool{}
	for _, snap := range t.Snapshots {
		if snap.State != vm.SnapshotDeleting {
			needed[snap.Disk.Layer] = true
			for _, part := range snap.DataDisks {
				needed[part.Layer] = true
			}
		}
	}
	for _, l := range t.Layers {
		if needed[l.ID] {
			continue
		}
		disks, layers := onto(t, l.ID)
		switch {
		case len(disks)+len(layers) == 0:
			return layerWork{layer: l}, true
		case len(disks) == 1 && len(layers) == 0:
			return layerWork{layer: l, disk: disks[0]}, true
		case len(layers) == 1 && len(disks) == 0:
			w := layerWork{layer: l, child: &layers[0]}
			above, layersAbove := onto(t, layers[0].ID)
			w.beside = append(w.beside, above...)
			for _, a := range layersAbove {
				w.beside = append(w.beside, a.Path)
			}
			return w, true
		}
	}
	return layerWork{}, false
}

// onto returns what is right on a layer: disks, by their files, and layers.
func onto(t vm.DiskTree, id string) (disks []string, layers []vm.Layer) {
	for _, d := range t.Disks {
		if d.Layer == id {
			disks = append(disks, d.Path)
		}
	}
	for _, d := range t.DataDisks {
		if d.Layer == id {
			disks = append(disks, d.Path)
		}
	}
	for _, l := range t.Layers {
		if l.Parent == id {
			layers = append(layers, l)
		}
	}
	return disks, layers
}

// withDisk returns the disks with one in the place of the one that has its path now.
func withDisk(disks []vm.Disk, path string, next vm.Disk) []vm.Disk {
	out := slices.Clone(disks)
	for i := range out {
		if out[i].Path == path {
			out[i] = next
		}
	}
	return out
}

// withLayer returns the layers with one changed, or added.
func withLayer(layers []vm.Layer, l vm.Layer) []vm.Layer {
	out := slices.Clone(layers)
	if i := slices.IndexFunc(out, func(old vm.Layer) bool { return old.ID == l.ID }); i >= 0 {
		out[i] = l
		return out
	}
	return append(out, l)
}

// withoutLayer returns the layers but one.
func withoutLayer(layers []vm.Layer, id string) []vm.Layer {
	return slices.DeleteFunc(slices.Clone(layers), func(l vm.Layer) bool { return l.ID == id })
}

// withoutLayers returns the layers but some.
func withoutLayers(layers, gone []vm.Layer) []vm.Layer {
	for _, l := range gone {
		layers = withoutLayer(layers, l.ID)
	}
	return layers
}

// asLayer makes a layer of a disk that is written to no more.
func asLayer(id string, d vm.Disk) vm.Layer {
	return vm.Layer{
		ID: id, Path: d.Path, Parent: d.Layer, ImageID: d.ImageID, Backing: d.Backing, BackingFormat: d.BackingFormat, Size: d.Size,
		NVRAM: d.NVRAM,
	}
}
