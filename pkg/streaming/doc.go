// SPDX-License-Identifier: Apache-2.0

// Package streaming serves what CRI's Exec, Attach and PortForward promise: each of the
// three answers with a URL, and a client that opens it within a minute, once, gets its
// streams there. kubectl's come through the API server and the kubelet, crictl's directly.
//
//	Exec --> URL with a token ... client --HTTP upgrade--> SPDY or WebSocket --> UseCases
//
// The two protocols are k8s.io/cri-streaming's. Its server is not used, only what is below
// it: that server gives port-forwards no context at all and others one that does not end
// with the connection, so that a process whose client has gone would live on.
package streaming
