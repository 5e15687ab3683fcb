# SPDX-License-Identifier: Apache-2.0
#
# The node image: vmlet with libvirt, QEMU and CNI plugins on Debian 12.
#
#   docker build -t vmlet .
#   docker run --privileged --network host --cgroupns host -v /sys/fs/cgroup:/sys/fs/cgroup \
#     -v /etc/cni/net.d:/etc/cni/net.d:ro -v /var/lib/vmlet:/var/lib/vmlet -v /run/vmlet:/run/vmlet vmlet
#
# With `-v /run/libvirt:/run/libvirt` it uses the host's libvirtd, whose VMs outlive the container.

FROM golang:1.26-bookworm AS build
WORKDIR /src
# Modules first: their layer lasts until one of them changes.
COPY go.mod go.sum ./
COPY tools/go.mod tools/go.sum tools/
RUN go mod download && go -C tools mod download
COPY . .
RUN make build tools && CGO_ENABLED=0 go build -trimpath -o bin/reaper ./build/reaper

FROM debian:12-slim
# The package list is that of build/install-deps.sh, which also adds QEMU's account.
COPY build/install-deps.sh /usr/libexec/vmlet/build/
COPY build/packages /usr/libexec/vmlet/build/packages
RUN apt-get -qq update \
    && apt-get -qq -y --no-install-recommends install tini \
    && /usr/libexec/vmlet/build/install-deps.sh runtime \
    && rm -rf /var/lib/apt/lists/*
COPY build/libvirtd.sh /usr/libexec/vmlet/build/
COPY images/node/entrypoint.sh /usr/libexec/vmlet/
COPY --from=build /src/bin/reaper /usr/libexec/vmlet/bin/
COPY --from=build /src/bin/cni /opt/cni/bin
# vmlet-agent is for guests: vmlet puts it on their seeds.
COPY --from=build /src/bin/vmlet /src/bin/vmletctl /src/bin/vmlet-agent /usr/local/bin/
# tini collects what QEMU and the CNI plugins leave behind; a libvirtd of the container's own has its own reaper.
ENTRYPOINT ["/usr/bin/tini", "--", "/usr/libexec/vmlet/entrypoint.sh"]
