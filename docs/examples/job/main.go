// Command job makes a report in a PostgreSQL database, one process at a time: the lock of coord keeps others away, and its fencing
// token keeps away one that was stopped for so long that it lost the lock without noticing. The database has the last word, because
// nobody else can: the check of the token and the write are one statement.
//
//	job -endpoints 127.0.0.1:2379 -database postgres://localhost/reports -name alice
//
// The table, made if it is not there, keeps the token of the last write beside the report.
package main

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"strings"
	"time"

	_ "github.com/lib/pq" // the driver

	"github.com/coord-dev/coord/client"
)

// errStale: a later holder of the lock has written already.
var errStale = errors.New("the database has seen a later holder of the lock")

func main() {
	endpoints := flag.String("endpoints", "127.0.0.1:2379", "client addresses of the members, separated by commas")
	database := flag.String("database", "", "URL of the database")
	name := flag.String("name", "job", "who we are, for the report")
	ttl := flag.Duration("ttl", 10*time.Second, "time after which a silent holder is taken for dead")
	pause := flag.Bool("pause", false, "wait for a line of input between reading and writing")
	flag.Parse()
	if err := run(context.Background(), strings.Split(*endpoints, ","), *database, *name, *ttl, *pause); err != nil {
		log.Fatal(err)
	}
}

// run makes a report under the lock.
func run(ctx context.Context, endpoints []string, database, name string, ttl time.Duration, pause bool) error {
	db, err := open(ctx, database)
	if err != nil {
		return err
	}
	defer db.Close()
	c, err := client.New(client.Config{Endpoints: endpoints, SessionTTL: ttl, Owner: name})
	if err != nil {
		return err
	}
	defer c.Close()
	return c.Lock("report").Do(ctx, func(ctx context.Context, held *client.Held) error {
		fmt.Println("holding with token", held.Token())
		report, err := read(ctx, db)
		if err != nil {
			return err
		}
		fmt.Printf("read %q\n", report)
		if pause { // here is the work; whatever stops this process for longer than the TTL loses the lock
			if _, err := bufio.NewReader(os.Stdin).ReadString('\n'); err != nil {
				return err
			}
		}

		// ctx tells now whether the lock is lost, but the process may be stopped right behind such a check. So the write
		// does without, to show that the database needs no help.
		if err := write(context.WithoutCancel(ctx), db, held.Token(), report+name+" "); err != nil {
			return err
		}
		fmt.Println("wrote")
		return nil
	})
}

// open opens the database and makes the table.
func open(ctx context.Context, url string) (*sql.DB, error) {
	db, err := sql.Open("postgres", url)
	if err != nil {
		return nil, err
	}
	_, err = db.ExecContext(ctx, `
		CREATE TABLE IF NOT EXISTS report (id int PRIMARY KEY, text text NOT NULL, token bigint NOT NULL);
		INSERT INTO report VALUES (1, '', 0) ON CONFLICT DO NOTHING`)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make the table: %w", err), db.Close())
	}
	return db, nil
}

func read(ctx context.Context, db *sql.DB) (report string, err error) {
	err = db.QueryRowContext(ctx, `SELECT text FROM report WHERE id = 1`).Scan(&report)
	return report, err
}

// write replaces the report, unless the holder of a greater token wrote it. errStale.
func write(ctx context.Context, db *sql.DB, token int64, report string) error {
	done, err := db.ExecContext(ctx, `UPDATE report SET text = $2, token = $1 WHERE id = 1 AND token <= $1`, token, report)
	if err != nil {
		return err
	}
	if rows, err := done.RowsAffected(); err != nil || rows == 1 {
		return err
	}
	return fmt.Errorf("token %d: %w", token, errStale)
}
