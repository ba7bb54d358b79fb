package coord

import (
	"context"

	"github.com/coord-dev/coord/coord/internal/registry"
)

// startRegistry starts what the member does for the service registry.
func (s *Server) startRegistry() {
	backend := registry.Backend{
		View: func(ctx context.Context) (registry.View, error) {
			v, err := s.system.Read(ctx)
			if err != nil {
				return nil, err
			}
			return v, nil
		},
		Subscribe: s.system.Subscribe, Propose: s.system.Propose, Leads: s.system.group.IsLeader,
		Logger: s.log.Named("registry"),
	}
	if !s.cfg.NoServiceProbes {
		prober := registry.NewProber(backend, s.cfg.probePolicy(), registry.ProbeLimits{
			Answering: s.files.probes * 4 / 5, Hanging: s.files.probes / 5,
		})
		s.spawn(func() error { return prober.Run(s.ctx) })
	}
	if s.listeners.dnsUDP != nil {
		server := registry.NewDNS(backend, s.listeners.dnsUDP, s.ports.dns.Listen(s.listeners.dnsTCP), s.cfg.DNSTTL,
			s.ready)
		s.spawn(func() error { return server.Run(s.ctx) })
	}
}
