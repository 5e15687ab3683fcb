#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Builds the tiny guest image from Debian packages and the agent's source. No root, no mounts, no loop devices; the same
# packages and the same files here give the same bytes.
#
# usage: images/tiny/build.sh [--without-agent] OUT.qcow2
#
# --without-agent leaves vmlet-agent out: a guest as distributions have it, with qemu-guest-agent alone.
# Downloads are kept in ${XDG_CACHE_HOME:-~/.cache}/vmlet/debs.
set -euo pipefail
export LC_ALL=C TZ=UTC PATH=$PATH:/usr/sbin:/sbin
umask 022

readonly disk_mib=256 boot_mib=24
readonly boot_id=54494e59 root_uuid=74696e79-0000-4000-8000-000000000001 hash_seed=74696e79-0000-4000-8000-000000000002

with_agent=yes
if [ "${1:-}" = --without-agent ]; then
  with_agent=
  shift
fi
[ $# -eq 1 ] || { sed -n '/^# usage/s/^# //p' "$0" >&2; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
out=$(realpath -m "$1")
cache=${XDG_CACHE_HOME:-$HOME/.cache}/vmlet/debs
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
debs=$work/debs shell=$work/shell initramfs=$work/initramfs root=$work/root
mkdir -p "$cache" "$debs" "$shell" "$initramfs" "$root" "$(dirname "$out")"

# column N FILE [SECOND] prints column N of a list, of the lines whose second column is SECOND.
column() { awk -v n="$1" -v second="${3:-}" '$1 !~ /^(#|$)/ && (second == "" || $2 == second) { print $n }' "$2"; }

die() { echo "build.sh: $*" >&2; exit 1; }

# packages prints what to unpack; the kernel's name changes with its version, so a package without it depends on it.
packages() {
  local name
  for name in $(column 1 "$here/packages.txt"); do
    case $name in
      linux-image-*) apt-cache depends --important "$name" | awk '$1 == "Depends:" && $2 ~ /^linux-image-/ { print $2 }' ;;
      *) echo "$name" ;;
    esac
  done
}

# download brings $cache up to what the package lists name. apt verifies what it fetches and what it finds there.
download() {
  local names
  mapfile -t names < <(packages 2>/dev/null)
  (cd "$cache" && flock . apt-get -qq -o APT::Sandbox::User="$(id -un)" download "${names[@]}")
}

# fetch_packages unpacks what the archive serves now into $debs.
fetch_packages() {
  local names file
  # Lists that are missing or older than the archive.
  if ! download 2>"$work/apt.err"; then
    [ "$(id -u)" = 0 ] || die "$(cat "$work/apt.err"): run apt-get update as root"
    apt-get -qq update
    download
  fi
  mapfile -t names < <(packages)
  # In an empty folder: apt names only those files that are not there.
  (cd "$debs" && apt-get download --print-uris "${names[@]}") | while read -r _ file _; do
    case $file in
      busybox_*) dpkg-deb -x "$cache/$file" "$shell" ;; # it has /bin/busybox, and so has busybox-static
      *) dpkg-deb -x "$cache/$file" "$debs" ;;
    esac
  done
}

# unsign cuts off the signature of a module: checking those of the modules in a boot would cost a quarter of all that the
# guest executes until READY, and no one asks for them. At the end of the file stand the signature, 8 bytes, its size
# (32 bits, big-endian), and a magic line.
unsign() {
  local magic='~Module signature appended~' size
  [ "$(tail -c 28 "$1")" = "$magic" ] || return 0
  size=$((16#$(tail -c 32 "$1" | head -c 4 | od -An -v -tx1 | tr -d ' \n')))
  truncate -s "-$((size + 40))" "$1"
}

# copy_modules KIND DIR copies the modules of that kind (all without one) and what they depend on, with their index.
copy_modules() {
  local kind=$1 to=$2/lib/modules/$kernel from=$debs/lib/modules/$kernel file
  mkdir -p "$to"
  for file in $(column 1 "$here/modules.txt" "$kind"); do
    modprobe -d "$debs" -S "$kernel" --show-depends "$file" | awk '$1 == "insmod" { print $2 }'
  done | sort -u | while read -r file; do
    install -D -m 0644 "$file" "$to/${file#"$from"/}"
    unsign "$to/${file#"$from"/}"
  done
  cp "$from"/modules.{builtin,builtin.modinfo,order} "$to"
  depmod -b "$2" "$kernel"
  rm "$to"/modules.{builtin,builtin.modinfo,order,*.bin,devname,softdep}
}

# copy_program FILE NAME copies an unpacked program into the image, with the libraries it is linked with.
copy_program() {
  local libraries=$debs/lib/x86_64-linux-gnu:$debs/usr/lib/x86_64-linux-gnu library
  install -D -m 0755 "$1" "$root/usr/bin/$2"
  "$debs/lib64/ld-linux-x86-64.so.2" --library-path "$libraries" --list "$1" |
    awk '$3 ~ /^\// { print $1, $3 }' | while read -r name library; do
      install -D -m 0644 "$library" "$root/usr/lib/x86_64-linux-gnu/$name"
    done
}

# build_program PACKAGE builds a program of this tree into the image, with nothing in it of the time, the place or the
# commit of this build.
build_program() {
  (cd "$here/../.." && CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags '-s -w' -o "$root/usr/bin/${1##*/}" "$1")
}

make_root() {
  local applet file mode
  mkdir -p "$root"/{dev,etc,mnt,proc,root,run,sys,tmp,usr/bin,usr/lib,var/lib,var/log}
  ln -s usr/bin "$root/bin"
  ln -s usr/bin "$root/sbin"
  ln -s usr/lib "$root/lib"
  ln -s usr/lib/x86_64-linux-gnu "$root/lib64"
  ln -s bin "$root/usr/sbin"
  ln -s ../run "$root/var/run"
  ln -s ../tmp "$root/var/tmp"
  install -m 0755 "$debs/bin/busybox" "$root/usr/bin/busybox"
  for applet in $("$root/usr/bin/busybox" --list); do
    # Hard links: what is mounted over one of them is not seen through the others.
    [ "$applet" = busybox ] || ln "$root/usr/bin/busybox" "$root/usr/bin/$applet"
  done
  # The shell of busybox-static runs applets without looking into PATH.
  rm "$root/usr/bin/sh"
  copy_program "$shell/bin/busybox" sh
  copy_program "$debs/usr/sbin/qemu-ga" qemu-ga
  copy_program "$debs/usr/bin/ipcs" ipcs
  [ -z "$with_agent" ] || build_program ./cmd/vmlet-agent
  build_program ./images/tiny/nonewprivs
  chmod 4755 "$root/usr/bin/nonewprivs"
  install -m 0755 "$debs/lib64/ld-linux-x86-64.so.2" "$root/usr/lib/x86_64-linux-gnu/"
  # install, unlike cp, replaces the symbolic link of an applet instead of writing through it.
  (cd "$here/rootfs" && find . -type f) | while read -r file; do
    mode=0644
    [ ! -x "$here/rootfs/$file" ] || mode=0755
    install -D -m "$mode" "$here/rootfs/$file" "$root/$file"
  done
  column 1 "$here/modules.txt" boot >"$root/etc/modules.boot"
  column 1 "$here/modules.txt" late >"$root/etc/modules.late"
  copy_modules "" "$root"
}

make_initramfs() {
  local applet
  mkdir -p "$initramfs"/{bin,dev,proc,sys,newroot}
  install -m 0755 "$here/initramfs/init" "$initramfs/init"
  install -m 0755 "$debs/bin/busybox" "$initramfs/bin/busybox"
  for applet in sh mount modprobe findfs sleep ls umount switch_root; do ln -s busybox "$initramfs/bin/$applet"; done
  copy_modules root "$initramfs"
  stamp "$initramfs"
  (cd "$initramfs" && find . | sort | cpio --quiet --reproducible -R 0:0 -o -H newc) | gzip -9n >"$work/initrd"
}

stamp() { find "$@" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +; }

make_boot_partition() {
  mkdir "$work/boot"
  cp "$debs/boot/vmlinuz-$kernel" "$work/boot/vmlinuz"
  cp "$work/initrd" "$here/syslinux.cfg" "$work/boot"
  stamp "$work/boot"
  truncate -s "${boot_mib}M" "$work/boot.img"
  mkfs.fat --invariant -F 16 -h 2048 -i "$boot_id" -n TINYBOOT "$work/boot.img" >/dev/null
  mcopy -m -i "$work/boot.img" "$work"/boot/* ::
  syslinux --install "$work/boot.img"
  add_uefi_loader
}

# add_uefi_loader puts beside it what UEFI looks for on a disk: the same boot loader, which reads the same syslinux.cfg. Last, so
# that nothing of what BIOS boots by is elsewhere for it.
add_uefi_loader() {
  local efi=$work/efi
  mkdir -p "$efi/EFI/BOOT"
  cp "$debs/usr/lib/SYSLINUX.EFI/efi64/syslinux.efi" "$efi/EFI/BOOT/BOOTX64.EFI"
  cp "$debs/usr/lib/syslinux/modules/efi64/ldlinux.e64" "$efi/EFI/BOOT"
  stamp "$efi"
  mcopy -s -m -i "$work/boot.img" "$efi/EFI" ::
}

# make_root_partition makes the root file system. mke2fs takes over owners and change times, which differ from build to
# build, so debugfs sets them.
make_root_partition() {
  stamp "$root"
  truncate -s "$((disk_mib - 1 - boot_mib))M" "$work/root.img"
  E2FSPROGS_FAKE_TIME=$SOURCE_DATE_EPOCH mke2fs -q -t ext4 -L tiny-root -U "$root_uuid" \
    -E "hash_seed=$hash_seed,lazy_itable_init=0,lazy_journal_init=0,nodiscard" -O ^resize_inode -J size=4 -m 0 -N 8192 \
    -d "$root" "$work/root.img"
  (cd "$root" && find . -mindepth 1 -printf '/%P\n' && echo /) | sort | while read -r file; do
    printf "sif $file %s\n" uid\ 0 gid\ 0 {a,c,cr,m}"time @$SOURCE_DATE_EPOCH"
  done >"$work/debugfs"
  E2FSPROGS_FAKE_TIME=$SOURCE_DATE_EPOCH debugfs -w -f "$work/debugfs" "$work/root.img" >/dev/null 2>"$work/debugfs.err"
  # It succeeds whatever happens, and greets on standard error.
  if grep -v '^debugfs ' "$work/debugfs.err" >&2; then die "debugfs failed"; fi
}

# le32 prints a number as four little-endian bytes.
le32() { printf '%b' "$(printf '\\x%02x\\x%02x\\x%02x\\x%02x' $(($1 & 255)) $(($1 >> 8 & 255)) $(($1 >> 16 & 255)) $(($1 >> 24)))"; }

# partition STATUS TYPE START SIZE prints an entry of the MBR's table, START and SIZE in MiB. 0xfeffff: "use LBA".
partition() { printf '%b' "\\x$1\\xfe\\xff\\xff\\x$2\\xfe\\xff\\xff"; le32 $(($3 * 2048)); le32 $(($4 * 2048)); }

make_disk() {
  local disk=$work/disk.img
  truncate -s "${disk_mib}M" "$disk"
  {
    head -c 440 /usr/lib/syslinux/mbr/mbr.bin
    le32 0x54494e59
    printf '\0\0'
    partition 80 0e 1 "$boot_mib"
    partition 00 83 $((1 + boot_mib)) $((disk_mib - 1 - boot_mib))
    head -c 32 /dev/zero
    printf '\x55\xaa'
  } | dd of="$disk" conv=notrunc status=none
  dd if="$work/boot.img" of="$disk" bs=1M seek=1 conv=notrunc,sparse status=none
  dd if="$work/root.img" of="$disk" bs=1M seek=$((1 + boot_mib)) conv=notrunc,sparse status=none
  qemu-img convert -q -c -f raw -O qcow2 "$disk" "$out.part"
  mv "$out.part" "$out"
}

fetch_packages
kernel=$(ls "$debs/lib/modules")
# Times in the image are that of the kernel package, unless told otherwise.
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(stat -c %Y "$debs/boot/vmlinuz-$kernel")}
depmod -b "$debs" "$kernel"
make_root
make_initramfs
make_boot_partition
make_root_partition
make_disk
