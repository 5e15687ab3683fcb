// SPDX-License-Identifier: Apache-2.0

package agentlink

import (
	"fmt"

	"google.golang.org/protobuf/proto"

	agentv1 "github.com/vmlet/vmlet/proto/agent/v1"
)

const (
	// version is the newest protocol that this side speaks, oldest the oldest.
	version = 1
	oldest  = 1

	nonceLen = 16
)

// agree returns the version that a side which sent these numbers and this one both speak.
func agree(hello *agentv1.Hello) (uint32, error) {
	common := min(hello.GetVersion(), version)
	if common < max(hello.GetOldest(), oldest) {
		return 0, fmt.Errorf("vmlet speaks versions %d to %d of the protocol, vmlet-agent %d to %d",
			hello.GetOldest(), hello.GetVersion(), oldest, version)
	}
	return common, nil
}

// link is a port with frames on it. One goroutine reads at a time.
type link struct {
	in  *frameReader
	out *frameWriter
}

// tell writes a message of the handshake.
func (l *link) tell(k kind, m proto.Message) error {
	payload, err := proto.Marshal(m)
	if err != nil {
		return err
	}
	return l.out.write(k, payload)
}

// hello reads a Hello out of a frame that is one.
func hello(fr frame) (*agentv1.Hello, bool) {
	m := &agentv1.Hello{}
	if fr.kind != kindHello || proto.Unmarshal(fr.payload, m) != nil || len(m.GetNonce()) != nonceLen {
		return nil, false
	}
	return m, true
}
