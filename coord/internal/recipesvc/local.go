package recipesvc

import coordv1 "github.com/coord-dev/coord/proto/coord/v1"

// Election is the Election service for callers in this process.
func (s *Service) Election() coordv1.ElectionServer { return electionServer{service: s} }
