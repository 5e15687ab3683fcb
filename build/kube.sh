#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Builds the parts of Kubernetes that tests run vmlet under: OUT/kube, and a link to it for each part.
#
#   build/kube.sh OUT
set -euo pipefail

out=$(cd "${1:?usage: build/kube.sh OUT}" && pwd)
cd "$(dirname "$0")/../tools"

# As Kubernetes' own build sets it: a kubelet without calls itself v0.0.0.
version=$(go list -m -f '{{.Version}}' k8s.io/kubernetes)
IFS=. read -r major minor _ <<<"${version#v}"
component=k8s.io/component-base/version

CGO_ENABLED=0 go build -trimpath -o "$out/kube" -ldflags "-s -w \
  -X $component.gitVersion=$version -X $component.gitMajor=$major -X $component.gitMinor=$minor \
  -X $component.gitTreeState=clean" ./kube
ln -sf kube "$out/kubelet"
