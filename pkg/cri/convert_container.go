// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"fmt"
	"path/filepath"
	"strings"
	"unicode/utf8"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vmlet/vmlet/pkg/vm"
)

// containerSpec converts what CreateContainer was asked for. logDirectory is the
// sandbox's, as it was recorded: the copy in the request is "just for easy reference".
func containerSpec(config *runtimeapi.ContainerConfig, logDirectory string) (vm.ContainerSpec, error) {
	if err := checkContainer(config); err != nil {
		return vm.ContainerSpec{}, err
	}
	env, err := envVars(config.GetEnvs())
	if err != nil {
		return vm.ContainerSpec{}, err
	}
	mounted, err := mounts(config.GetMounts())
	if err != nil {
		return vm.ContainerSpec{}, err
	}
	logPath, err := logPathIn(logDirectory, config.GetLogPath())
	if err != nil {
		return vm.ContainerSpec{}, err
	}
	rights, err := security(config.GetLinux().GetSecurityContext(), hasCommand(config))
	if err != nil {
		return vm.ContainerSpec{}, err
	}
	signal, err := stopSignal(config)
	if err != nil {
		return vm.ContainerSpec{}, err
	}
	limits, err := resources("config.linux.resources", config.GetLinux().GetResources())
	if err != nil {
		return vm.ContainerSpec{}, err
	}
	return vm.ContainerSpec{
		Name:               config.GetMetadata().GetName(),
		Attempt:            config.GetMetadata().GetAttempt(),
		ImageRef:           config.GetImage().GetImage(),
		UserSpecifiedImage: config.GetImage().GetUserSpecifiedImage(),
		Command:            config.GetCommand(),
		Args:               config.GetArgs(),
		WorkingDir:         config.GetWorkingDir(),
		Env:                env,
		Mounts:             mounted,
		LogPath:            logPath,
		Labels:             config.GetLabels(),
		Annotations:        config.GetAnnotations(),
		Resources:          limits,
		TTY:                config.GetTty(),
		Stdin:              config.GetStdin(),
		StdinOnce:          config.GetStdinOnce(),
		Security:           rights,
		StopSignal:         signal,
	}, nil
}

// checkContainer looks at what is demanded and at what is refused as a whole.
func checkContainer(config *runtimeapi.ContainerConfig) error {
	if config.GetMetadata() == nil {
		return invalid("config.metadata", "must be set")
	}
	if err := checkName("config.metadata.name", config.GetMetadata().GetName(), maxContainerName); err != nil {
		return err
	}
	if config.GetImage().GetImage() == "" {
		return invalid("config.image.image", "must not be empty")
	}
	if len(config.GetDevices()) > 0 {
		return refused("config.devices", "devices of the host are not passed to guests yet; remove them")
	}
	if len(config.GetCDIDevices()) > 0 {
		return refused("config.CDI_devices", "devices of the host are not passed to guests yet; remove them")
	}
	return checkContainerSecurity(config.GetLinux().GetSecurityContext(), hasCommand(config))
}

// envVars converts the environment. Errors name a variable, never its value.
func envVars(envs []*runtimeapi.KeyValue) ([]vm.EnvVar, error) {
	if len(envs) == 0 {
		return nil, nil
	}
	out := make([]vm.EnvVar, 0, len(envs))
	for i, kv := range envs {
		field := fmt.Sprintf("config.envs[%d]", i)
		// What environ(7) and exec(3) can carry, and what a record can keep unchanged.
		if name := kv.GetKey(); name == "" || strings.ContainsAny(name, "=\x00") {
			return nil, invalid(field+".key", "%q is no name of a variable", name)
		}
		if value := kv.GetValue(); strings.ContainsRune(string(value), 0) || !utf8.Valid(value) {
			return nil, invalid(field+".value", "the value of %q is not UTF-8 text without NUL", kv.GetKey())
		}
		out = append(out, vm.EnvVar{Name: kv.GetKey(), Value: string(kv.GetValue())})
	}
	return out, nil
}

// logPathIn is the container's log on the host: "Path relative to
// PodSandboxConfig.LogDirectory". Without a directory, or a path, there is no log.
func logPathIn(dir, path string) (string, error) {
	if path == "" {
		return "", nil
	}
	clean := filepath.Clean(path)
	if !filepath.IsLocal(path) || climbs(path) || clean == "." || hasControl(path) {
		return "", invalid("config.log_path", "%q must be a path below the sandbox's log_directory", path)
	}
	if dir == "" {
		return "", nil
	}
	return filepath.Join(dir, clean), nil
}

// containerStatus converts a container; imageRef is the digested reference of its image.
// Lists have their own way: see appendContainer.
func containerStatus(c vm.Container, imageRef string) *runtimeapi.ContainerStatus {
	status := &runtimeapi.ContainerStatus{
		Id:          c.ID,
		Metadata:    containerMetadata(c),
		State:       containerState(c.Status.State),
		CreatedAt:   nanos(c.CreatedAt),
		StartedAt:   nanos(c.Status.StartedAt),
		Image:       imageSpec(c.Spec),
		ImageRef:    imageRef,
		ImageId:     c.Spec.ImageID,
		Labels:      c.Spec.Labels,
		Annotations: c.Spec.Annotations,
		Mounts:      mountsBack(c.Spec.Mounts),
		LogPath:     c.Spec.LogPath,
		Resources:   containerResources(c.Held().Resources),
	}
	if exit := c.Status.Exit; exit != nil {
		status.FinishedAt = nanos(exit.At)
		status.ExitCode = exit.Code
		status.Reason = exit.Reason
		status.Message = exit.Message
	}
	return status
}

func containerMetadata(c vm.Container) *runtimeapi.ContainerMetadata {
	return &runtimeapi.ContainerMetadata{Name: c.Spec.Name, Attempt: c.Spec.Attempt}
}

func imageSpec(spec vm.ContainerSpec) *runtimeapi.ImageSpec {
	return &runtimeapi.ImageSpec{Image: imageName(spec), UserSpecifiedImage: spec.UserSpecifiedImage}
}

// imageName is the image as people know it: kubelets ask for an image by its ID, and
// show what is told back as the container's image.
func imageName(spec vm.ContainerSpec) string {
	if spec.UserSpecifiedImage != "" {
		return spec.UserSpecifiedImage
	}
	return spec.ImageRef
}

var containerStates = map[vm.ContainerState]runtimeapi.ContainerState{
	vm.ContainerCreated:  runtimeapi.ContainerState_CONTAINER_CREATED,
	vm.ContainerStarting: runtimeapi.ContainerState_CONTAINER_CREATED,
	vm.ContainerRunning:  runtimeapi.ContainerState_CONTAINER_RUNNING,
	vm.ContainerExited:   runtimeapi.ContainerState_CONTAINER_EXITED,
	vm.ContainerRemoving: runtimeapi.ContainerState_CONTAINER_EXITED,
}

// containerState is CRI's view of a state, UNKNOWN for one that has none.
func containerState(s vm.ContainerState) runtimeapi.ContainerState {
	if state, ok := containerStates[s]; ok {
		return state
	}
	return runtimeapi.ContainerState_CONTAINER_UNKNOWN
}
