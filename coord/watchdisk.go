package coord

import (
	"context"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.uber.org/zap"

	"github.com/coord-dev/coord/coord/internal/datadir"
	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
)

// newWatchdog takes a first look at the disk; nil if it is not to be watched.
func (s *Server) newWatchdog() (*datadir.Watchdog, error) {
	if s.cfg.DiskReserve < 0 {
		return nil, nil
	}
	signal := func(low bool) {
		if !low {
			return
		}
		select {
		case s.diskLow <- struct{}{}:
		default:
		}
	}
	dog, err := datadir.NewWatchdog(datadir.WatchdogOptions{
		Paths: []string{s.dir.DBPath(), s.dir.WALPath()}, Ballast: s.dir.BallastPath(),
		Reserve:  uint64(s.cfg.DiskReserve),
		OnChange: signal, Logger: s.log,
	})
	if err == nil {
		signal(dog.Low())
	}
	return dog, err
}

// watchDisk raises the NOSPACE alarm through the log when this member's disk is nearly full, so that all members refuse
// writes alike, before any of them breaks. Disarming it is left to an operator, as in etcd.
func (s *Server) watchDisk() error {
	for {
		select {
		case <-s.ctx.Done():
			return nil
		case <-s.diskLow:
			s.raiseNoSpace()
		}
	}
}

// raiseNoSpace proposes the alarm until it is raised.
func (s *Server) raiseNoSpace() {
	alarm := &pb.AlarmRequest{
		Action: pb.AlarmRequest_ACTIVATE, Alarm: pb.AlarmType_NOSPACE, MemberID: s.identity.MemberID,
	}
	s.log.Error("the disk is nearly full: raising the NOSPACE alarm, writes will be refused")
	for s.ctx.Err() == nil {
		ctx, cancel := context.WithTimeout(s.ctx, 5*time.Second)
		err := s.propose(ctx, raftv1.KindAlarm, alarm)
		cancel()
		if err == nil {
			return
		}
		s.log.Warn("raising the NOSPACE alarm", zap.Error(err))
		s.pause(publishPause)
	}
}
