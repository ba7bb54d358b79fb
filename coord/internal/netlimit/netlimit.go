// Package netlimit bounds the connections of a port, so that none who connects can take the file descriptors that the
// log and the store need, and none who connects and says nothing keeps others out.
//
// A connection is half-open until it has shown what it is: an HTTP/2 preface, the head of an HTTP/1 request, or a
// peer's finished handshake. Half-open ones are bounded in time, and in number: beyond it the oldest is closed, as
// whoever speaks at once is not among the oldest. All connections of a port are bounded in number: beyond it new ones
// are closed as they come.
package netlimit

import (
	"container/list"
	"errors"
	"net"
	"os"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
)

// HandshakeTimeout is how long a connection may be half-open.
const HandshakeTimeout = 10 * time.Second

// Options bound a Port. Zero values of numbers are none at all.
type Options struct {
	// Name is the port's in metrics and in the log.
	Name string
	// Max is the number of connections, MaxHalfOpen that of half-open ones among them.
	Max, MaxHalfOpen int
	// Timeout is how long one may be half-open: HandshakeTimeout if 0.
	Timeout time.Duration
	Metrics *Metrics
	Logger  *zap.Logger
}

// Port bounds the connections of one or more listeners together.
type Port struct {
	opts Options

	mu struct {
		sync.Mutex
		open     int
		halfOpen list.List // of *Conn, the oldest first
		warned   time.Time // that there are too many
	}
}

// NewPort makes a port.
func NewPort(opts Options) *Port {
	if opts.Timeout == 0 {
		opts.Timeout = HandshakeTimeout
	}
	return &Port{opts: opts}
}

// Listen bounds what l accepts.
func (p *Port) Listen(l net.Listener) net.Listener { return &listener{l, p} }

type listener struct {
	net.Listener
	port *Port
}

// acceptPause is the wait after accept failed, as it does while there are no descriptors or no memory.
const acceptPause = 50 * time.Millisecond

// Accept implements net.Listener. It fails only if the listener was closed, or its deadline is over: any other error
// passes, and the servers above would take it for the end.
func (l *listener) Accept() (net.Conn, error) {
	for {
		raw, err := l.Listener.Accept()
		if errors.Is(err, net.ErrClosed) || errors.Is(err, os.ErrDeadlineExceeded) {
			return nil, err
		}
		if err != nil {
			l.port.failed(err)
			time.Sleep(acceptPause)
			continue
		}
		if c := l.port.admit(raw); c != nil {
			return c, nil
		}
	}
}

// failed logs that accept failed, now and then.
func (p *Port) failed(err error) {
	p.opts.Metrics.closed.WithLabelValues(p.opts.Name, "accept").Inc()
	if p.mayWarn() {
		p.opts.Logger.Warn("accepting a connection", zap.String("port", p.opts.Name), zap.Error(err))
	}
}

// warnEvery is the time between two lines of the log about the same port.
const warnEvery = 10 * time.Second

func (p *Port) mayWarn() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if now.Sub(p.mu.warned) < warnEvery {
		return false
	}
	p.mu.warned = now
	return true
}

// admit takes a connection in, or closes it.
func (p *Port) admit(raw net.Conn) *Conn {
	c := &Conn{Conn: raw, port: p}
	oldest, ok := p.enter(c)
	if !ok {
		raw.Close()
		p.opts.Metrics.closed.WithLabelValues(p.opts.Name, "limit").Inc()
		if p.mayWarn() {
			p.opts.Logger.Warn("too many connections: new ones are closed at once", zap.String("port", p.opts.Name),
				zap.Int("limit", p.opts.Max))
		}
		return nil
	}
	if oldest != nil {
		oldest.drop("half_open")
	}
	return c
}

// enter counts a connection. Where it is one half-open one too many, the oldest has to go.
func (p *Port) enter(c *Conn) (oldest *Conn, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.open >= p.opts.Max {
		return nil, false
	}
	p.mu.open++
	c.counted = true
	p.opts.Metrics.open.WithLabelValues(p.opts.Name).Inc()
	p.opts.Metrics.halfOpen.WithLabelValues(p.opts.Name).Inc()
	c.place = p.mu.halfOpen.PushBack(c)
	c.timer = time.AfterFunc(p.opts.Timeout, func() { c.drop("timeout") })
	if p.mu.halfOpen.Len() > p.opts.MaxHalfOpen {
		oldest = p.mu.halfOpen.Front().Value.(*Conn)
		p.settle(oldest)
	}
	return oldest, true
}

// settle takes a connection out of the half-open ones; false if it was none.
func (p *Port) settle(c *Conn) bool {
	if c.place == nil {
		return false
	}
	p.mu.halfOpen.Remove(c.place)
	c.place = nil
	c.timer.Stop()
	p.opts.Metrics.halfOpen.WithLabelValues(p.opts.Name).Dec()
	return true
}

// Conn is a connection that counts until it is closed.
type Conn struct {
	net.Conn
	port *Port

	// Guarded by port.mu.
	place *list.Element // among the half-open ones, nil if it is none
	timer *time.Timer   // while it is one
	// counted towards Max; and closed.
	counted, closed bool
}

// Ready says that the connection has shown what it is.
func (c *Conn) Ready() {
	c.port.mu.Lock()
	defer c.port.mu.Unlock()
	c.port.settle(c)
}

// Proven says that whoever connected has proved to be a member: its connections are few, and do not count.
func (c *Conn) Proven() {
	c.port.mu.Lock()
	defer c.port.mu.Unlock()
	c.port.settle(c)
	c.discount()
}

func (c *Conn) discount() {
	if c.counted {
		c.counted = false
		c.port.mu.open--
	}
}

// Ready is Conn.Ready for a connection of whatever kind.
func Ready(c net.Conn) {
	if r, ok := c.(*Conn); ok {
		r.Ready()
	}
}

// Proven is Conn.Proven for a connection of whatever kind.
func Proven(c net.Conn) {
	if r, ok := c.(*Conn); ok {
		r.Proven()
	}
}

// Close implements net.Conn.
func (c *Conn) Close() error {
	c.leave()
	return c.Conn.Close()
}

func (c *Conn) leave() {
	c.port.mu.Lock()
	defer c.port.mu.Unlock()
	c.port.settle(c)
	c.discount()
	if !c.closed {
		c.closed = true
		c.port.opts.Metrics.open.WithLabelValues(c.port.opts.Name).Dec()
	}
}

// drop closes a connection that is half-open for too long, or one of too many.
func (c *Conn) drop(reason string) {
	c.port.opts.Metrics.closed.WithLabelValues(c.port.opts.Name, reason).Inc()
	c.Close()
}

// NetConn is the connection below, for who sets its options.
func (c *Conn) NetConn() net.Conn { return c.Conn }

// Metrics count the connections of all ports. It is a prometheus.Collector.
type Metrics struct {
	open, halfOpen *prometheus.GaugeVec
	closed         *prometheus.CounterVec
}

// NewMetrics makes them.
func NewMetrics() *Metrics {
	return &Metrics{
		open: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "coord_connections", Help: "Open connections by port.",
		}, []string{"port"}),
		halfOpen: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "coord_connections_half_open", Help: "Connections that have not shown yet what they are.",
		}, []string{"port"}),
		closed: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "coord_connections_refused_total",
			Help: "Connections closed because there were too many (limit), too many half-open ones (half_open), or " +
				"one was half-open for too long (timeout); and failures to accept one (accept).",
		}, []string{"port", "reason"}),
	}
}

// Describe implements prometheus.Collector.
func (m *Metrics) Describe(out chan<- *prometheus.Desc) {
	m.open.Describe(out)
	m.halfOpen.Describe(out)
	m.closed.Describe(out)
}

// Collect implements prometheus.Collector.
func (m *Metrics) Collect(out chan<- prometheus.Metric) {
	m.open.Collect(out)
	m.halfOpen.Collect(out)
	m.closed.Collect(out)
}
