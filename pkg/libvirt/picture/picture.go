// SPDX-License-Identifier: Apache-2.0

// Package picture makes a PNG file of what libvirt tells of a screen: a PPM, or with later versions a PNG.
//
// It is pure. What it reads comes from a QEMU that its guest may have taken over, so it is believed nothing: neither how
// large it is nor that it is a picture. A PNG is not passed on but drawn anew, since who looks at it may be easier to fool.
package picture

import (
	"bytes"
	"fmt"
	"image"
	"image/png"
	"regexp"
	"strconv"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/vm"
)

// MaxFile is how many bytes of a screen's file are worth reading: one that is longer shows more than a picture may.
const MaxFile = vm.MaxPicture + headerRoom

// headerRoom is more than any header of a PPM takes.
const headerRoom = 64

// Of is the picture in a file. FailedPrecondition for a screen that has more pixels than vm.MaxPicture has room for, other
// errors for what is no picture.
func Of(file []byte) (vm.Picture, error) {
	var img image.Image
	var err error
	if bytes.HasPrefix(file, []byte("\x89PNG")) {
		img, err = fromPNG(file)
	} else {
		img, err = fromPPM(file)
	}
	if err != nil {
		return vm.Picture{}, err
	}
	var out bytes.Buffer
	encoder := png.Encoder{CompressionLevel: png.BestSpeed}
	if err := encoder.Encode(&out, img); err != nil {
		return vm.Picture{}, fmt.Errorf("write the PNG: %w", err)
	}
	size := img.Bounds().Size()
	return vm.Picture{PNG: out.Bytes(), Width: size.X, Height: size.Y}, nil
}

func fromPNG(file []byte) (image.Image, error) {
	header, err := png.DecodeConfig(bytes.NewReader(file))
	if err == nil {
		err = checkSize(header.Width, header.Height)
	}
	if err != nil {
		return nil, fmt.Errorf("read the screen's PNG: %w", err)
	}
	img, err := png.Decode(bytes.NewReader(file))
	if err != nil {
		return nil, fmt.Errorf("read the screen's PNG: %w", err)
	}
	return img, nil
}

// header is that of a PPM as QEMU writes it.
var header = regexp.MustCompile(`^P6\n([0-9]{1,5}) ([0-9]{1,5})\n255\n`)

// pixel is how many bytes of a PPM a pixel takes: red, green and blue.
const pixel = 3

func fromPPM(file []byte) (image.Image, error) {
	fields := header.FindSubmatch(file[:min(len(file), headerRoom)])
	if fields == nil {
		return nil, fmt.Errorf("what libvirt tells of the screen is neither a PNG nor a PPM as QEMU writes it")
	}
	width, _ := strconv.Atoi(string(fields[1]))  //nolint:errcheck // digits
	height, _ := strconv.Atoi(string(fields[2])) //nolint:errcheck // the same
	if err := checkSize(width, height); err != nil {
		return nil, err
	}
	pixels := file[len(fields[0]):]
	if len(pixels) != width*height*pixel {
		return nil, fmt.Errorf("a screen of %dx%d comes with %d bytes of pixels, not %d", width, height, len(pixels), width*height*pixel)
	}
	img := image.NewNRGBA(image.Rect(0, 0, width, height))
	for from, to := 0, 0; from < len(pixels); from, to = from+pixel, to+4 {
		copy(img.Pix[to:], pixels[from:from+pixel])
		img.Pix[to+pixel] = 0xff
	}
	return img, nil
}

func checkSize(width, height int) error {
	if width < 1 || height < 1 || width > vm.MaxPicture/pixel/height {
		return fmt.Errorf("a screen of %dx%d does not make a picture of 1 to %d pixels: %w", width, height, vm.MaxPicture/pixel, errdefs.ErrFailedPrecondition)
	}
	return nil
}
