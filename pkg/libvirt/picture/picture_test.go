// SPDX-License-Identifier: Apache-2.0

package picture

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"math/rand/v2"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/vmlet/vmlet/pkg/vm"
)

func ppm(width, height int, pixels []byte) []byte {
	return append(fmt.Appendf(nil, "P6\n%d %d\n255\n", width, height), pixels...)
}

func pngOf(t testing.TB, img image.Image) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestAPictureShowsThePixelsOfTheScreen(t *testing.T) {
	want := []color.NRGBA{{1, 2, 3, 255}, {255, 0, 0, 255}, {0, 255, 0, 255}, {0, 0, 255, 255}, {9, 9, 9, 255}, {}}
	want[5].A = 255
	screen := image.NewNRGBA(image.Rect(0, 0, 3, 2))
	var pixels []byte
	for i, c := range want {
		screen.SetNRGBA(i%3, i/3, c)
		pixels = append(pixels, c.R, c.G, c.B)
	}
	for name, file := range map[string][]byte{"PPM": ppm(3, 2, pixels), "PNG": pngOf(t, screen)} {
		got, err := Of(file)
		if err != nil || got.Width != 3 || got.Height != 2 {
			t.Fatalf("%s: %dx%d, %v", name, got.Width, got.Height, err)
		}
		img, err := png.Decode(bytes.NewReader(got.PNG))
		if err != nil {
			t.Fatal(err)
		}
		for i, c := range want {
			if is := color.NRGBAModel.Convert(img.At(i%3, i/3)); is != c {
				t.Errorf("%s: pixel %d is %v, want %v", name, i, is, c)
			}
		}
	}
}

// TestALargePictureFitsAMessage, also one that cannot be made smaller.
func TestALargePictureFitsAMessage(t *testing.T) {
	const message = 16 << 20 // gRPC's, of vmlet's server and its clients
	const width, height = 2560, 2048
	pixels := make([]byte, width*height*pixel)
	noise := rand.NewChaCha8([32]byte{})
	if _, err := noise.Read(pixels); err != nil {
		t.Fatal(err)
	}
	file := ppm(width, height, pixels)
	if len(file) > MaxFile {
		t.Errorf("a file of %d bytes is not read", len(file))
	}
	got, err := Of(file)
	if err != nil || len(got.PNG) > message-1024 {
		t.Errorf("%d bytes, %v", len(got.PNG), err)
	}
}

func TestWhatIsNoPictureIsRefused(t *testing.T) {
	cut := pngOf(t, image.NewGray(image.Rect(0, 0, 8, 8)))
	for name, tc := range map[string]struct {
		file  []byte
		large bool
	}{
		"nothing":             {file: nil},
		"a text":              {file: []byte("no screen today")},
		"a header alone":      {file: []byte("P6\n1 1\n255\n")},
		"too few pixels":      {file: ppm(2, 2, make([]byte, 11))},
		"too many pixels":     {file: ppm(2, 2, make([]byte, 13))},
		"another depth":       {file: []byte("P6\n1 1\n65535\n123456")},
		"no width":            {file: ppm(0, 1, nil), large: true},
		"too wide":            {file: ppm(99999, 99999, nil), large: true},
		"a width to overflow": {file: []byte("P6\n9223372036854775807 2\n255\n")},
		"one row too many":    {file: ppm(2560, 2049, nil), large: true},
		"half a PNG":          {file: cut[:len(cut)-20]},
		"a PNG's first bytes": {file: []byte("\x89PNG")},
		"a PNG too large":     {file: pngOf(t, image.NewGray(image.Rect(0, 0, 2560, 2049))), large: true},
	} {
		got, err := Of(tc.file)
		if err == nil || errdefs.IsFailedPrecondition(err) != tc.large {
			t.Errorf("%s: %dx%d, %v", name, got.Width, got.Height, err)
		}
	}
}

func FuzzOf(f *testing.F) {
	f.Add(ppm(2, 1, []byte("abcdef")))
	f.Add(ppm(9999, 9999, nil))
	f.Add(pngOf(f, image.NewGray(image.Rect(0, 0, 3, 3))))
	f.Fuzz(func(t *testing.T, file []byte) {
		got, err := Of(file)
		if err != nil {
			return
		}
		c, err := png.DecodeConfig(bytes.NewReader(got.PNG))
		if err != nil || c.Width != got.Width || c.Height != got.Height || c.Width*c.Height*pixel > vm.MaxPicture {
			t.Errorf("%+v, %v; told %dx%d", c, err, got.Width, got.Height)
		}
	})
}
