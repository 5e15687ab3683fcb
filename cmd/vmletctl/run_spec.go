// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

const (
	defaultLogDir = "/var/log/vmlet"
	// containerName is what the one container of a pod made here is called.
	containerName = "vm"
	// madeByLabel with madeBy marks pods that were made here: their logs are ours to remove.
	madeByLabel = "app.kubernetes.io/managed-by"
	madeBy      = "vmletctl"
)

// The annotations that vmlet knows a VM by, as far as they have a flag.
const (
	annotationUserData       = "vmlet.io/user-data"
	annotationUserDataBase64 = "vmlet.io/user-data-base64"
	annotationSSHKeys        = "vmlet.io/ssh-keys"
	annotationVCPUs          = "vmlet.io/vcpus"
	annotationMemory         = "vmlet.io/memory"
)

// spec is a pod to be run.
type spec struct {
	pod       *runtimeapi.PodSandboxConfig
	container *runtimeapi.ContainerConfig
}

// logPath is where the container's log will be.
func (s spec) logPath() string {
	return filepath.Join(s.pod.GetLogDirectory(), s.container.GetLogPath())
}

// podSpec makes a pod out of what was asked for. The image is only named.
func (a *app) podSpec(image string, f *runFlags) (spec, error) {
	annotations, err := a.annotations(f)
	if err != nil {
		return spec{}, err
	}
	logDir, err := filepath.Abs(f.logDir)
	if err != nil {
		return spec{}, err
	}
	name, uid := f.name, randomHex(16)
	if name == "" {
		name = nameFor(image)
	}
	return spec{
		pod: &runtimeapi.PodSandboxConfig{
			Metadata:     &runtimeapi.PodSandboxMetadata{Name: name, Namespace: f.namespace, Uid: uid},
			Hostname:     f.hostname,
			LogDirectory: logDir,
			Labels:       map[string]string{madeByLabel: madeBy},
			Annotations:  annotations,
		},
		container: &runtimeapi.ContainerConfig{
			Metadata: &runtimeapi.ContainerMetadata{Name: containerName},
			Image:    &runtimeapi.ImageSpec{Image: image, UserSpecifiedImage: image},
			LogPath:  fmt.Sprintf("%s_%s_%s.log", f.namespace, name, uid),
		},
	}, nil
}

// annotations are those that were given, and those that flags stand for.
func (a *app) annotations(f *runFlags) (map[string]string, error) {
	out := map[string]string{}
	for _, pair := range f.annotations {
		key, value, ok := strings.Cut(pair, "=")
		if !ok || key == "" {
			return nil, usageError{"vmletctl run", fmt.Errorf("--annotation %q is not KEY=VALUE", key)}
		}
		out[key] = value
	}
	fromFlags, err := a.flagAnnotations(f)
	if err != nil {
		return nil, err
	}
	for key, value := range fromFlags {
		if _, given := out[key]; given {
			return nil, usageError{"vmletctl run", fmt.Errorf("a flag and --annotation both set %s", key)}
		}
		out[key] = value
	}
	return out, nil
}

func (a *app) flagAnnotations(f *runFlags) (map[string]string, error) {
	out := map[string]string{}
	if f.memory != "" {
		out[annotationMemory] = strings.TrimSuffix(f.memory, "B") // quantities are written without: 512Mi
	}
	if f.cpus != 0 {
		out[annotationVCPUs] = strconv.Itoa(f.cpus)
	}
	if f.userData != "" {
		text, err := a.readFile(f.userData)
		if err != nil {
			return nil, err
		}
		if utf8.Valid(text) {
			out[annotationUserData] = string(text)
		} else {
			out[annotationUserDataBase64] = base64.StdEncoding.EncodeToString(text)
		}
	}
	var keys []byte
	for _, name := range f.sshKeys {
		text, err := a.readFile(name)
		if err != nil {
			return nil, err
		}
		if bytes.Contains(text, []byte("PRIVATE KEY")) {
			return nil, fmt.Errorf("%s holds a private key; give the public one, such as %s.pub", name, name)
		}
		keys = append(append(keys, bytes.TrimSpace(text)...), '\n')
	}
	if len(keys) > 0 {
		out[annotationSSHKeys] = string(keys)
	}
	return out, nil
}

func (a *app) readFile(name string) ([]byte, error) {
	f, _, err := a.open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // it was only read
	return io.ReadAll(f)
}

var notInName = regexp.MustCompile(`[^a-z0-9]+`)

// nameFor makes a name out of an image's: that of its repository, and something random.
func nameFor(image string) string {
	image, _, _ = strings.Cut(image, "@")
	image = image[strings.LastIndexByte(image, '/')+1:]
	image, _, _ = strings.Cut(image, ":")
	base := strings.Trim(notInName.ReplaceAllString(strings.ToLower(image), "-"), "-")
	if base == "" {
		base = "vm"
	}
	return base + "-" + randomHex(2)
}

// randomHex is the hexadecimal form of n random bytes.
func randomHex(n int) string {
	b := make([]byte, n)
	rand.Read(b) // it never fails: see its documentation
	return hex.EncodeToString(b)
}
