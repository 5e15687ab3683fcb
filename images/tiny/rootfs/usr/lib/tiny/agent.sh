#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# agent.sh PORT PROGRAM [ARG...] runs an agent if the VM has its port.

port=/dev/virtio-ports/$1
shift
[ -c "$port" ] || /usr/lib/tiny/ports.sh
[ -c "$port" ] && exec "$@"
