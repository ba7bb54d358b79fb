package registry

import (
	"encoding/binary"
	"errors"
	"net"
	"time"

	"github.com/miekg/dns"
	"go.uber.org/zap"

	"github.com/coord-dev/coord/coord/internal/guard"
	"github.com/coord-dev/coord/coord/internal/netlimit"
)

// sound keeps from the library what would make its parser panic, on a goroutine of its own that nothing guards, and
// errors that would end its server although the port is still open.
func (d *DNS) sound(r dns.Reader) dns.Reader { return reader{r, d.log} }

type reader struct {
	dns.Reader
	log *zap.Logger
}

// writeTime bounds how long a client may take to read an answer.
const writeTime = 5 * time.Second

// ReadTCP implements dns.Reader. Its error ends one connection only.
func (r reader) ReadTCP(conn net.Conn, timeout time.Duration) ([]byte, error) {
	m, err := r.Reader.ReadTCP(conn, timeout)
	if err != nil {
		return nil, err
	}
	netlimit.Ready(conn)
	return r.checked(m), conn.SetWriteDeadline(time.Now().Add(writeTime))
}

// ReadUDP implements dns.Reader.
func (r reader) ReadUDP(conn *net.UDPConn, timeout time.Duration) ([]byte, *dns.SessionUDP, error) {
	m, session, err := r.Reader.ReadUDP(conn, timeout)
	if err != nil && !errors.Is(err, net.ErrClosed) && !isTimeout(err) {
		r.log.Warn("reading DNS", zap.Error(err))
		time.Sleep(retryAfter) // such as a lack of memory
		err = passing{err}
	}
	return r.checked(m), session, err
}

func isTimeout(err error) bool {
	var n net.Error
	return errors.As(err, &n) && n.Timeout()
}

// passing is an error after which the library goes on.
type passing struct{ error }

func (passing) Timeout() bool   { return false }
func (passing) Temporary() bool { return true }

// checked is the message, or nothing of it where parsing it panics: what has no header is dropped.
func (r reader) checked(m []byte) (sound []byte) {
	defer guard.Recover(r.log, "dns", func(any) { sound = m[:0] })
	if announces(m) {
		_ = new(dns.Msg).Unpack(m) // what does not parse is answered by the library
	}
	return m
}

// announces reports whether the library would parse the message: by its header it does not announce more than a query
// has.
func announces(m []byte) bool {
	if len(m) < 12 {
		return false
	}
	field := func(i int) uint16 { return binary.BigEndian.Uint16(m[2*i:]) }
	return dns.DefaultMsgAcceptFunc(dns.Header{
		Id: field(0), Bits: field(1), Qdcount: field(2), Ancount: field(3), Nscount: field(4), Arcount: field(5),
	}) == dns.MsgAccept
}
