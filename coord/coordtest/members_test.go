package coordtest_test

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/coord-dev/coord/coord"
	"github.com/coord-dev/coord/coord/coordtest"
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
				resp, err := client.MemberAdd(t.Context(), &pb.MemberAddRequest{PeerURLs: []string{url}, IsLearner: true})
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
	_ = l.(*net.TCPListener).SetDeadline(time.Now().Add(1500 * time.Millisecond)) // several times the pause between two dials
	if conn, err := l.Accept(); err == nil {
		t.Errorf("the removed member is dialled from %s", conn.RemoteAddr())
	}
}
