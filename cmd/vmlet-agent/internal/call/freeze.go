// SPDX-License-Identifier: Apache-2.0

package call

import (
	"time"

	"github.com/vmlet/vmlet/pkg/agentlink"
	agentv1 "github.com/vmlet/vmlet/proto/agent/v1"
)

// freeze freezes file systems, until the session ends at the latest: nobody could thaw them
// then.
func (s *Server) freeze(st *agentlink.Stream, req *agentv1.FreezeRequest) (*agentv1.Reply, error) {
	return frozen(s.Freezer.Freeze(time.Duration(req.GetTimeoutNano()), st.SessionDone()))
}

func frozen(points []string, err error) (*agentv1.Reply, error) {
	return &agentv1.Reply{Result: &agentv1.Reply_Frozen{Frozen: &agentv1.Frozen{MountPoints: points}}}, err
}
