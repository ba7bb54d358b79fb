package driver

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/go-zookeeper/zk"
)

// zooKeeperRegister is a node; its version is the node's.
type zooKeeperRegister struct {
	conn *zk.Conn
	path string
}

func (r zooKeeperRegister) read(context.Context) (int, int64, error) {
	value, stat, err := r.conn.Get(r.path)
	if err != nil {
		return 0, 0, err
	}
	n, err := parseNumber(value)
	return n, int64(stat.Version), err
}

func (r zooKeeperRegister) swap(_ context.Context, n int, version int64) (bool, error) {
	_, err := r.conn.Set(r.path, []byte(strconv.Itoa(n)), int32(version))
	if errors.Is(err, zk.ErrBadVersion) {
		return false, nil
	}
	return err == nil, err
}

func (d *zooKeeper) Count(ctx context.Context, caller int) error {
	return change(ctx, zooKeeperRegister{d.conn(caller), "/" + sharedCounter}, 1, noLimit)
}

func (d *zooKeeper) Permit(ctx context.Context, caller int) error {
	return permit(ctx, zooKeeperRegister{d.conn(caller), "/" + sharedPermits})
}

// Party does what Curator's DistributedDoubleBarrier does; the Go client has no barrier.
func (d *zooKeeper) Party(_ context.Context, name string, parties int) (Party, error) {
	i := int(d.lockAt.Add(1))
	p := &zooKeeperParty{conn: d.conn(i), parent: barrierParent + "/" + name, parties: parties}
	p.own = fmt.Sprintf("party%08d", i)
	return p, d.create(i, p.parent, nil)
}

type zooKeeperParty struct {
	conn    *zk.Conn
	parent  string
	own     string // the name of its node
	parties int
}

// ready is the node that is there once all have entered. It does not count as a party.
const ready = "ready"

func (p *zooKeeperParty) Enter(context.Context) error {
	found, _, event, err := p.conn.ExistsW(p.parent + "/" + ready)
	if err != nil {
		return err
	}
	if _, err := p.conn.Create(p.parent+"/"+p.own, nil, zk.FlagEphemeral, anybody); err != nil {
		return err
	}
	parties, err := p.present()
	if err != nil {
		return err
	}
	if len(parties) >= p.parties {
		if _, err := p.conn.Create(p.parent+"/"+ready, nil, 0, anybody); err != nil &&
			!errors.Is(err, zk.ErrNodeExists) {
			return err
		}
	}
	if !found {
		return (<-event).Err
	}
	return nil
}

// present are the names of the parties that are there, in their order.
func (p *zooKeeperParty) present() ([]string, error) {
	names, _, err := p.conn.Children(p.parent)
	names = slices.DeleteFunc(names, func(name string) bool { return name == ready })
	slices.Sort(names)
	return names, err
}

// Leave has the first party wait for the last one, and every other for the first, so that one deletion wakes few.
func (p *zooKeeperParty) Leave(context.Context) error {
	deleted := false
	for {
		parties, err := p.present()
		if err != nil || len(parties) == 0 {
			return err
		}
		other := parties[0]
		last := len(parties) == 1 && other == p.own
		if other == p.own {
			other = parties[len(parties)-1]
		}
		if !deleted && (last || parties[0] != p.own) {
			if err := p.conn.Delete(p.parent+"/"+p.own, anyVersion); err != nil {
				return err
			}
			deleted = true
		}
		if last {
			return nil
		}
		found, _, event, err := p.conn.ExistsW(p.parent + "/" + other)
		if err != nil {
			return err
		}
		if found {
			if e := <-event; e.Err != nil {
				return e.Err
			}
		}
	}
}
