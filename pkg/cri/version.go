// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"context"
	"regexp"
	"strings"

	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vmlet/vmlet/pkg/version"
)

const (
	runtimeName = "vmlet"
	// kubeletAPIVersion is what kubelets and crictl send and expect back in "version".
	kubeletAPIVersion = "0.1.0"
	// apiVersion stands for runtime.v1, in the form that the CRI demands ("must be
	// semver-compatible").
	apiVersion = "1.0.0"
)

// Version tells who answers.
func (*Server) Version(context.Context, *runtimeapi.VersionRequest) (*runtimeapi.VersionResponse, error) {
	return &runtimeapi.VersionResponse{
		Version:           kubeletAPIVersion,
		RuntimeName:       runtimeName,
		RuntimeVersion:    semver(version.Version),
		RuntimeApiVersion: apiVersion,
	}, nil
}

var (
	semverSyntax = regexp.MustCompile(`^v?\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?$`)
	notInBuild   = regexp.MustCompile(`[^0-9A-Za-z.-]+`)
)

// semver makes a version semver-compatible, which a build outside a release is not: its
// version is a commit, and a kubelet gives up on a version that it cannot parse.
func semver(v string) string {
	if semverSyntax.MatchString(v) {
		return v
	}
	return "0.0.0+" + strings.Trim(notInBuild.ReplaceAllString("build."+v, "-"), ".-")
}
