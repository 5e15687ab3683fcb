#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Builds the parts of Kubernetes that tests run vmlet under: OUT/kube, and a link to it for each part; or
# OUT/kubelet-oldest. Of two at once for one OUT the second waits, and then finds it done.
#
#   build/kube.sh OUT [kubelet-oldest]
set -euo pipefail

out=$(cd "${1:?usage: build/kube.sh OUT [kubelet-oldest]}" && pwd)
case ${2:-} in
  '') module=tools package=./kube binary=kube ;;
  kubelet-oldest) module=tools/kubelet-oldest package=. binary=kubelet-oldest ;;
  *) echo "kube.sh: no such part: $2" >&2; exit 2 ;;
esac
cd "$(dirname "$0")/../$module"
exec 9>"$out/.kube.lock"
flock 9

# As Kubernetes' own build sets it: a kubelet without calls itself v0.0.0.
version=$(go list -m -f '{{.Version}}' k8s.io/kubernetes)
IFS=. read -r major minor _ <<<"${version#v}"
component=k8s.io/component-base/version

CGO_ENABLED=0 go build -trimpath -gcflags=all=-dwarf=false -o "$out/$binary" -ldflags "-s -w \
  -X $component.gitVersion=$version -X $component.gitMajor=$major -X $component.gitMinor=$minor \
  -X $component.gitTreeState=clean" "$package"
[ "$binary" != kube ] || ln -sf kube "$out/kubelet"
