package service

import (
	"sync"

	"go.uber.org/zap"

	"github.com/coord-dev/coord/recipes"
)

// lines holds the line of each name that somebody is interested in.
type lines struct {
	mu     sync.Mutex
	byName map[string]*sharedLine
}

// sharedLine counts the users of a line. ready is closed when opening it is over; then line or err is set.
type sharedLine struct {
	users  int // guarded by lines.mu
	ready  chan struct{}
	line   *line
	cancel func()
	err    error
}

// open returns the line of name, and release, which the caller calls once when it is done with it.
func (s *Service) open(name string) (l *line, release func(), err error) {
	s.lines.mu.Lock()
	shared := s.lines.byName[name]
	first := shared == nil
	if first {
		shared = &sharedLine{ready: make(chan struct{})}
		s.lines.byName[name] = shared
	}
	shared.users++
	s.lines.mu.Unlock()
	if first {
		shared.line, shared.cancel, shared.err = s.subscribe(name)
		close(shared.ready)
	}
	<-shared.ready
	release = sync.OnceFunc(func() { s.releaseLine(name, shared) })
	if shared.err != nil {
		release()
		return nil, nil, shared.err
	}
	return shared.line, release, nil
}

func (s *Service) releaseLine(name string, shared *sharedLine) {
	s.lines.mu.Lock()
	shared.users--
	last := shared.users == 0
	if last {
		delete(s.lines.byName, name)
	}
	s.lines.mu.Unlock()
	if last && shared.cancel != nil {
		shared.cancel()
	}
}

// subscribe makes a line: first the subscription, then the read, so that nothing falls between.
func (s *Service) subscribe(name string) (*line, func(), error) {
	l := newLine(name, func(l *line) bool { return s.start(func() { s.read(l) }) })
	key, end := recipes.Range(name)
	_, cancel, err := s.backend.Subscribe(key, end, l.deliver)
	if err != nil {
		return nil, nil, err
	}
	queue, rev, err := s.queue(s.ctx, name)
	if err != nil {
		cancel()
		return nil, nil, err
	}
	l.load(queue, rev)
	return l, cancel, nil
}

// read reads a line again after a gap.
func (s *Service) read(l *line) {
	queue, rev, err := s.queue(s.ctx, l.name)
	if err != nil {
		s.backend.Logger.Warn("read a queue again", zap.String("name", l.name), zap.Error(err))
		l.fail(err)
		return
	}
	l.load(queue, rev)
}
