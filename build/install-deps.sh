#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Installs what is missing of the packages in build/packages, by apt. None of them starts a daemon.
#
# usage: build/install-deps.sh [runtime] [build] [test]      (all three without an argument)
#
# On a distribution that does not descend from Debian it prints what to install and exits with status 3.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
groups=("$@")
[ ${#groups[@]} -gt 0 ] || groups=(runtime build test)

die() { echo "install-deps: $*" >&2; exit 1; }

# packages COLUMN prints the names in that column (1 Debian, 2 Fedora, 3 Arch) of the chosen lists.
packages() {
  local group
  for group in "${groups[@]}"; do
    [ -f "$here/packages/$group.txt" ] || die "no such list: $group (runtime, build, test)"
    awk -v column="$1" '$1 !~ /^(#|$)/ && $column != "-" { print $column }' "$here/packages/$group.txt"
  done | sort -u
}

chosen() { [[ " ${groups[*]} " == *" $1 "* ]]; }

as_root() { [ "$(id -u)" = 0 ] || die "run as root, to $*"; }

distribution() {
  # shellcheck source=/dev/null
  (. /etc/os-release && echo "${ID:-} ${ID_LIKE:-}")
}

# advise names the packages in the words of this distribution.
advise() {
  local column=1 command="the packages that Debian calls"
  case " $(distribution) " in
    *" fedora "*|*" rhel "*|*" centos "*) column=2 command="dnf install" ;;
    *" arch "*) column=3 command="pacman -S --needed" ;;
  esac
  echo "install-deps: packages are installed here only on Debian and its relatives. Install, with your package manager:" >&2
  echo "  $command $(packages "$column" | paste -sd' ')" >&2
  exit 3
}

install_packages() {
  local wanted missing log
  mapfile -t wanted < <(packages 1)
  # Names that dpkg has never heard of go to stderr and make it fail; they are missing like the others.
  mapfile -t missing < <(
    { dpkg-query -W -f '${db:Status-Status} ${Package}\n' "${wanted[@]}" 2>/dev/null || true; } |
      awk '$1 == "installed" { print $2 }' | sort -u | comm -13 - <(printf '%s\n' "${wanted[@]}")
  )
  [ ${#missing[@]} -gt 0 ] || return 0
  as_root "install: ${missing[*]}"
  echo "install-deps: installing ${missing[*]}"
  log=$(mktemp)
  if ! {
    apt-get -qq update &&
      DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends \
        -o DPkg::Lock::Timeout=120 -o Dpkg::Use-Pty=0 install "${missing[@]}"
  } >"$log" 2>&1; then
    cat "$log" >&2
    rm -f "$log"
    die "apt-get failed"
  fi
  rm -f "$log"
}

# QEMU's account comes with Debian's libvirt-daemon-system, which also starts a system libvirtd and is not wanted here.
# Same names and numbers, so that installing that package later finds its own account.
ensure_qemu_account() {
  if ! getent group kvm >/dev/null; then
    as_root "add the group kvm"
    groupadd --system kvm
  fi
  if ! getent group libvirt-qemu >/dev/null; then
    as_root "add the group libvirt-qemu"
    groupadd --gid 64055 libvirt-qemu
  fi
  if ! getent passwd libvirt-qemu >/dev/null; then
    as_root "add the user libvirt-qemu"
    useradd -K UID_MAX=65533 --uid 64055 --gid kvm --groups libvirt-qemu --home-dir /var/lib/libvirt --no-create-home \
      --shell /usr/sbin/nologin --comment "Libvirt Qemu" libvirt-qemu
  fi
}

check_go() {
  local want have
  want=$(awk '$1 == "go" { print $2 }' "$here/../go.mod")
  if ! command -v go >/dev/null; then
    die "Go is missing: install Go $want or later from https://go.dev/dl/ and put its bin folder on PATH"
  fi
  have=$(cd / && GOTOOLCHAIN=local go env GOVERSION)
  have=${have#go}
  if [ "$(printf '%s\n' "$want" "$have" | sort -V | head -n 1)" != "$want" ]; then
    die "Go $have is too old: install Go $want or later from https://go.dev/dl/"
  fi
}

case " $(distribution) " in
  *" debian "*) install_packages ;;
  *) advise ;;
esac
if chosen runtime; then ensure_qemu_account; fi
if chosen build; then check_go; fi
