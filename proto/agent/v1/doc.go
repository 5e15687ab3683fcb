// SPDX-License-Identifier: Apache-2.0

// Package agentv1 is generated from agent.proto: what vmlet and vmlet-agent say to each other.
package agentv1
