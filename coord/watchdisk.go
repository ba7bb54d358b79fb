package coord

import (
	"context"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"

	"github.com/coord-dev/coord/coord/datadir"
	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
)

// watchDisk raises the NOSPACE alarm through the log when this member's disk is nearly full, so that all members refuse
// writes alike, before any of them breaks. Disarming it is left to an operator, as in etcd.
func (s *Server) watchDisk() error {
	if s.cfg.DiskReserve < 0 {
		return nil
	}
	low := make(chan struct{}, 1)
	raise := func() {
		select {
		case low <- struct{}{}:
		default:
		}
	}
	dog, err := datadir.NewWatchdog(datadir.WatchdogOptions{
		Paths: []string{s.dir.DBPath(), s.dir.WALPath()}, Ballast: s.dir.BallastPath(), Reserve: uint64(s.cfg.DiskReserve),
		OnChange: func(isLow bool) {
			if isLow {
				raise()
			}
		},
		Logger: s.log,
	})
	if err != nil {
		return err
	}
	if dog.Low() {
		raise()
	}
	s.spawn(func() error { return dog.Run(s.ctx) })
	for {
		select {
		case <-s.ctx.Done():
			return nil
		case <-low:
		}
		s.raiseNoSpace()
	}
}

// raiseNoSpace proposes the alarm until it is raised.
func (s *Server) raiseNoSpace() {
	body, err := proto.Marshal(&pb.AlarmRequest{
		Action: pb.AlarmRequest_ACTIVATE, Alarm: pb.AlarmType_NOSPACE, MemberID: s.identity.MemberID,
	})
	if err != nil {
		return
	}
	s.log.Error("the disk is nearly full: raising the NOSPACE alarm, writes will be refused")
	for s.ctx.Err() == nil {
		ctx, cancel := context.WithTimeout(s.ctx, 5*time.Second)
		_, err = s.proposer.Propose(ctx, raftv1.KindAlarm, body)
		cancel()
		if err == nil {
			return
		}
		s.log.Warn("raising the NOSPACE alarm", zap.Error(err))
		time.Sleep(publishPause)
	}
}
