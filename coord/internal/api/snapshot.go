package api

import (
	"bufio"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"go.uber.org/zap"
)

const (
	// maxBackups is how many may be under way: each is a file of the size of the store.
	maxBackups = 8
	// snapshotBlob is the size of the parts of a snapshot stream.
	snapshotBlob = 32 << 10
	// snapshotAlign is what etcd's tools count on: a saved snapshot is a multiple of it, plus the hash.
	snapshotAlign = 512
)

// Snapshot streams a backup, padded with zero bytes, and then the SHA-256 of all of it. It is spooled through a file
// first, because each part says how much remains and a slow client must not hold up the store.
func (s *maintenanceServer) Snapshot(_ *pb.SnapshotRequest, stream pb.Maintenance_SnapshotServer) error {
	begin := time.Now()
	select {
	case s.backups <- struct{}{}:
		defer func() { <-s.backups }()
	default:
		return rpctypes.ErrGRPCRequestTooManyRequests
	}
	file, size, err := s.spoolBackup(stream.Context())
	if err != nil {
		return wireError(err)
	}
	defer file.Close()
	hash := sha256.New()
	if err := sendBlobs(stream, io.TeeReader(file, hash), size); err != nil {
		return wireError(err)
	}
	if err := stream.Send(&pb.SnapshotResponse{Blob: hash.Sum(nil), Version: storageVersion}); err != nil {
		return err
	}
	s.log.Info("sent a snapshot to a client", zap.Int64("bytes", size), zap.Duration("took", time.Since(begin)))
	return nil
}

// spoolBackup returns a file that is gone when it is closed, read from its start, and its size.
func (s *maintenanceServer) spoolBackup(ctx context.Context) (_ *os.File, size int64, err error) {
	file, err := os.CreateTemp(s.spoolDir, "snapshot-*.tmp")
	if err != nil {
		return nil, 0, fmt.Errorf("spool a snapshot: %w", err)
	}
	defer func() {
		if err != nil {
			_ = file.Close()
		}
	}()
	// An open file needs no name: whatever happens to the process, it is gone.
	if err := os.Remove(file.Name()); err != nil {
		return nil, 0, fmt.Errorf("spool a snapshot: %w", err)
	}
	out := bufio.NewWriterSize(file, 1<<20)
	if err := s.backend.WriteBackup(ctx, out); err != nil {
		return nil, 0, fmt.Errorf("write a snapshot: %w", err)
	}
	if err := out.Flush(); err != nil {
		return nil, 0, fmt.Errorf("spool a snapshot: %w", err)
	}
	written, err := file.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, 0, fmt.Errorf("spool a snapshot: %w", err)
	}
	size = (written + snapshotAlign - 1) / snapshotAlign * snapshotAlign
	if err := file.Truncate(size); err != nil {
		return nil, 0, fmt.Errorf("spool a snapshot: %w", err)
	}
	_, err = file.Seek(0, io.SeekStart)
	return file, size, err
}

func sendBlobs(stream pb.Maintenance_SnapshotServer, from io.Reader, size int64) error {
	for left := size; left > 0; {
		blob := make([]byte, min(snapshotBlob, left)) // Send keeps it
		if _, err := io.ReadFull(from, blob); err != nil {
			return fmt.Errorf("read a spooled snapshot: %w", err)
		}
		left -= int64(len(blob))
		response := &pb.SnapshotResponse{RemainingBytes: uint64(left), Blob: blob, Version: storageVersion}
		if err := stream.Send(response); err != nil {
			return err
		}
	}
	return nil
}
