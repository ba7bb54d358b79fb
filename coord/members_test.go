package coord_test

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/coord-dev/coord/coord"
	"github.com/coord-dev/coord/coord/coordtest"
	"github.com/coord-dev/coord/coord/internal/group"
	raftv1 "github.com/coord-dev/coord/proto/raft/v1"
)

func clusterClients(t *testing.T, c *coordtest.Cluster) []pb.ClusterClient {
	var clients []pb.ClusterClient
	for _, endpoint := range c.Endpoints() {
		conn, err := grpc.NewClient(endpoint, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		clients = append(clients, pb.NewClusterClient(conn))
	}
	return clients
}

// checkRows checks that every member except some has rows for n members, and no others.
func checkRows(t *testing.T, c *coordtest.Cluster, n int, except ...int) {
	t.Helper()
	for i := range c.Endpoints() {
		if slices.Contains(except, i) {
			continue
		}
		var rows []*raftv1.Member
		for range 100 { // until it has applied what the others have
			if rows = c.Server(i).Rows(); len(rows) == n {
				break
			}
			time.Sleep(20 * time.Millisecond)
		}
		if len(rows) != n {
			t.Errorf("member %d has %d rows, want %d: %v", i, len(rows), n, rows)
		}
	}
}

// atOnce asks each client at the same time, and returns how many were not refused. The others were refused as want
// says.
func atOnce(
	t *testing.T, clients []pb.ClusterClient, want []error, ask func(i int, client pb.ClusterClient) error,
) (done int) {
	t.Helper()
	answers := make(chan error)
	for i, client := range clients {
		go func() { answers <- ask(i, client) }()
	}
	for range clients {
		err := <-answers
		if err == nil {
			done++
		} else if !slices.ContainsFunc(want, func(w error) bool { return errors.Is(rpctypes.Error(err), w) }) {
			t.Errorf("refused with %v, want %v", err, want)
		}
	}
	return done
}

// Each member may see an address that nobody has when all are asked at once; the log gives it to one.
func TestAddressClaimedAtOnce(t *testing.T) {
	c := coordtest.Start(t, coordtest.Options{Members: 3})
	c.WaitLeader()
	clients := clusterClients(t, c)
	taken := []error{rpctypes.ErrPeerURLExist, rpctypes.ErrMemberExist} // an id is made of URLs and the second
	before, err := clients[0].MemberList(t.Context(), &pb.MemberListRequest{Linearizable: true})
	if err != nil {
		t.Fatal(err)
	}
	for round := range 3 {
		url := []string{fmt.Sprintf("http://127.0.0.1:%d", 20101+round)}
		added := make(chan uint64, len(clients))
		n := atOnce(t, clients, taken, func(_ int, client pb.ClusterClient) error {
			resp, err := client.MemberAdd(t.Context(), &pb.MemberAddRequest{PeerURLs: url, IsLearner: true})
			if err == nil {
				added <- resp.Member.ID
			}
			return err
		})
		if n != 1 {
			t.Fatalf("%d members were added at one address", n)
		}
		checkRows(t, c, 4)
		if _, err := clients[0].MemberRemove(t.Context(), &pb.MemberRemoveRequest{ID: <-added}); err != nil {
			t.Fatal(err)
		}
		checkRows(t, c, 3)
		url[0] = fmt.Sprintf("http://127.0.0.1:%d", 20151+round)
		n = atOnce(t, clients, taken, func(i int, client pb.ClusterClient) error {
			m := before.Members[i]
			_, err := client.MemberUpdate(t.Context(),
				&pb.MemberUpdateRequest{ID: m.ID, PeerURLs: append(url, m.PeerURLs...)})
			return err
		})
		if n != 1 {
			t.Fatalf("%d members were moved to one address", n)
		}
	}
}

// Whoever adds a member may die between its row and the change, or not learn what became of the change: the leader
// deletes the row, of which no member can come any more.
func TestRowsWithoutMembersAreSwept(t *testing.T) {
	c := coordtest.Start(t, coordtest.Options{Members: 1})
	c.WaitLeader()
	s := c.Server(0)
	row := &raftv1.Member{Id: 99, PeerUrls: []string{"http://127.0.0.1:20201"}}
	if err := s.PutRow(t.Context(), row); err != nil {
		t.Fatal(err)
	}
	again := atOnce(t, clusterClients(t, c), []error{rpctypes.ErrPeerURLExist},
		func(_ int, client pb.ClusterClient) error {
			_, err := client.MemberAdd(t.Context(), &pb.MemberAddRequest{PeerURLs: row.PeerUrls, IsLearner: true})
			return err
		})
	if again != 0 {
		t.Error("another member has the address of one that is being added")
	}
	for later, rows := range map[time.Duration]int{0: 2, 20 * time.Second: 2} {
		if err := s.Sweep(t.Context(), later); err != nil {
			t.Fatal(err)
		}
		checkRows(t, c, rows)
	}
	if err := s.Sweep(t.Context(), 40*time.Second); err != nil {
		t.Fatal(err)
	}
	checkRows(t, c, 1)
	if err := s.AddLearner(t.Context(), row.Id); !errors.Is(err, group.ErrRejected) {
		t.Errorf("a member whose row was swept is added: %v", err)
	}
	if _, err := clusterClients(t, c)[0].MemberAdd(t.Context(),
		&pb.MemberAddRequest{PeerURLs: row.PeerUrls, IsLearner: true}); err != nil {
		t.Errorf("its address is not free: %v", err)
	}
	checkRows(t, c, 2)
}

// Each member may see room for a learner when all are asked at once; the log has room for one.
func TestLearnersAddedAtOnce(t *testing.T) {
	c := coordtest.Start(t, coordtest.Options{Members: 3})
	c.WaitLeader()
	clients := clusterClients(t, c)
	for round := range 3 {
		type answer struct {
			resp *pb.MemberAddResponse
			err  error
		}
		answers := make(chan answer)
		for i, client := range clients {
			go func() {
				url := fmt.Sprintf("http://127.0.0.1:%d", 20001+3*round+i)
				resp, err := client.MemberAdd(t.Context(),
					&pb.MemberAddRequest{PeerURLs: []string{url}, IsLearner: true})
				answers <- answer{resp, err}
			}()
		}
		var added []uint64
		for range clients {
			a := <-answers
			if a.err == nil {
				added = append(added, a.resp.Member.ID)
			} else if !errors.Is(rpctypes.Error(a.err), rpctypes.ErrTooManyLearners) {
				t.Errorf("refused with %v", a.err)
			}
		}
		if len(added) != 1 {
			t.Fatalf("%d learners were added at once", len(added))
		}
		list, err := clients[1].MemberList(t.Context(), &pb.MemberListRequest{Linearizable: true})
		if err != nil || len(list.Members) != 4 {
			t.Fatalf("members %v, %v", list, err)
		}
		checkRows(t, c, 4)
		if _, err := clients[0].MemberRemove(t.Context(), &pb.MemberRemoveRequest{ID: added[0]}); err != nil {
			t.Fatal(err)
		}
	}
}

// A member that is asked to remove itself stops, and nobody dials it any more.
func TestMemberRemovedThroughItself(t *testing.T) {
	c := coordtest.Start(t, coordtest.Options{Members: 3})
	out := (c.WaitLeader() + 1) % 3
	clients := clusterClients(t, c)
	list, err := clients[out].MemberList(t.Context(), &pb.MemberListRequest{Linearizable: true})
	if err != nil {
		t.Fatal(err)
	}
	server := c.Server(out)
	if _, err := clients[out].MemberRemove(t.Context(), &pb.MemberRemoveRequest{ID: list.Header.MemberId}); err != nil {
		t.Fatal(err)
	}
	select {
	case <-server.Done():
	case <-time.After(20 * time.Second):
		t.Fatal("the removed member does not stop")
	}
	if !errors.Is(server.Err(), coord.ErrRemoved) {
		t.Errorf("it stopped with %v", server.Err())
	}
	checkRows(t, c, 2, out)
	l, err := net.Listen("tcp", strings.TrimPrefix(server.Config().ListenPeerURLs[0], "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	time.Sleep(time.Second) // dials that were under way
	if err := l.(*net.TCPListener).SetDeadline(time.Now()); err != nil {
		t.Fatal(err)
	}
	for { // what has arrived by now
		conn, err := l.Accept()
		if err != nil {
			break
		}
		conn.Close()
	}
	// several times the pause between two dials
	_ = l.(*net.TCPListener).SetDeadline(time.Now().Add(1500 * time.Millisecond))
	if conn, err := l.Accept(); err == nil {
		t.Errorf("the removed member is dialled from %s", conn.RemoteAddr())
	}
}
