#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# agent.sh PORT PROGRAM [ARG...] runs an agent if the VM has its port; else it ends with 77.

port=/dev/virtio-ports/$1
shift
[ -c "$port" ] || /usr/lib/tiny/ports.sh
[ -c "$port" ] || exit 77
exec "$@"
