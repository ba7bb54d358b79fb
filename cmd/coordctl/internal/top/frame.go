package top

import (
	"bytes"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/dustin/go-humanize"

	"github.com/coord-dev/coord/cmd/coordctl/internal/cli"
	"github.com/coord-dev/coord/cmd/coordctl/internal/inspect"
	"github.com/coord-dev/coord/cmd/coordctl/internal/service"
)

// section is a part of a picture as people read it.
type section struct {
	title string
	head  []any
	rows  [][]any
}

// lines are the head and the first n rows; nothing if there are none.
func (s *section) lines(n int) [][]any {
	if n <= 0 {
		return nil
	}
	return append([][]any{s.head}, s.rows[:n]...)
}

func (p *picture) sections() []section {
	return []section{p.membersSection(), p.sessionsSection(), p.queuesSection(), p.electionsSection(),
		p.servicesSection()}
}

// titled is a title with the reason why the part is old.
func (p *picture) titled(part, format string, args ...any) string {
	title := fmt.Sprintf(format, args...)
	if err := p.failed[part]; err != nil {
		title += fmt.Sprintf(" (as it was: %s)", cli.Plain(err.Error()))
	}
	return title
}

func (p *picture) membersSection() section {
	s := section{head: []any{"NAME", "ROLE", "LAG", "DB SIZE", "VERSION", "ID", "ENDPOINT", "ERRORS"}}
	down := 0
	for _, m := range p.Members {
		lag, size := fmt.Sprint(m.Lag), humanize.IBytes(uint64(m.DBSize))
		if m.Role == "down" {
			lag, size = "-", "-"
			down++
		}
		s.rows = append(s.rows,
			[]any{cli.OrDash(m.Name), m.Role, lag, size, cli.OrDash(m.Version), m.ID, cli.OrDash(m.Endpoint),
				cli.OrDash(strings.Join(m.Errors, "; "))})
	}
	s.title = p.titled(topMembers, "MEMBERS  %d, %d down", len(p.Members), down)
	return s
}

func (p *picture) sessionsSection() section {
	s := section{
		title: p.titled(topSessions, "SESSIONS  %s, holding %d and waiting for %d; those with least time left",
			count(p.Sessions.Count, p.Sessions.More), p.Sessions.Holds, p.Sessions.Waits),
		head: []any{"SESSION", "HOST", "PROCESS", "LEFT", "TTL", "HOLDS", "WAITS", "LABELS"},
	}
	for _, f := range p.Sessions.Soonest {
		s.rows = append(s.rows,
			[]any{f.ID, cell(f.Host), cell(f.Process), tenths(f.LeftMS), inspect.Milliseconds(f.TTLMS), f.Holds,
				f.Waits,
				cell(inspect.Labels(f.Labels))})
	}
	return s
}

func (p *picture) queuesSection() section {
	return section{
		title: p.titled(topQueues, "LOCKS  %s, %d waiting; those with the longest queues",
			count(p.Locks.Count, p.Locks.More),
			p.Locks.Waiting),
		head: []any{"NAME", "KIND", "HOLDER", "HOST", "AGE", "TOKEN", "WAITING"},
		rows: p.Locks.rows(),
	}
}

func (p *picture) electionsSection() section {
	return section{
		title: p.titled(topQueues, "ELECTIONS  %s, %d standing by", count(p.Elections.Count, p.Elections.More),
			p.Elections.Waiting),
		head: []any{"NAME", "KIND", "LEADER", "HOST", "AGE", "TERM", "CANDIDATES"},
		rows: p.Elections.rows(),
	}
}

func (f *queuesForm) rows() [][]any {
	var rows [][]any
	for _, q := range f.Longest {
		age := "unknown"
		if q.AgeMS > 0 {
			age = (time.Duration(q.AgeMS) * time.Millisecond).Truncate(time.Second).String()
		}
		rows = append(rows, []any{cell(q.Name), q.Kind, cell(q.Owner), cell(q.Host), age, q.Token, q.Waiting})
	}
	return rows
}

func (p *picture) servicesSection() section {
	s := section{head: service.SummaryHead()}
	instances := 0
	for _, f := range p.Services {
		instances += f.Instances
		s.rows = append(s.rows, f.Row())
	}
	s.title = p.titled(topServices, "SERVICES  %d, with %d instances", len(p.Services), instances)
	return s
}

func count(n int, more bool) string {
	if more {
		return fmt.Sprintf("more than %d", n)
	}
	return fmt.Sprint(n)
}

// tenths is a time in tenths of a second.
func tenths(ms int64) string {
	return (time.Duration(ms) * time.Millisecond).Truncate(100 * time.Millisecond).String()
}

// cell is a text that somebody chose, no longer than leaves room for the other columns.
func cell(text string) string {
	const longest = 40
	text = cli.OrDash(text)
	if utf8.RuneCountInString(text) <= longest {
		return text
	}
	return string([]rune(text)[:longest-1]) + "…"
}

// screen are the lines of the picture on a terminal, at most height of them. Longer lines than width are cut by the
// terminal.
func (p *picture) screen(width, height int) []string {
	head := fmt.Sprintf("coordctl top  %s  q quits", p.at.Format("15:04:05"))
	lines, sections := []string{head}, p.sections()
	needs, room := make([]int, len(sections)), height-1
	for i, s := range sections {
		needs[i] = len(s.rows)
		room -= 2 // title and head
	}
	for i, n := range share(room, needs) {
		s := &sections[i]
		title := s.title
		if pad := width - utf8.RuneCountInString(title); pad > 0 {
			title += strings.Repeat(" ", pad)
		}
		lines = append(lines, highlighted+title+normal)
		var text bytes.Buffer
		cli.Table(&text, s.lines(n)...)
		if text.Len() > 0 {
			lines = append(lines, strings.Split(strings.TrimSuffix(text.String(), "\n"), "\n")...)
		}
	}
	return lines[:min(len(lines), height)]
}

// share gives each as much of room as it needs, or as much as the others that get less than they need.
func share(room int, needs []int) []int {
	got := make([]int, len(needs))
	for given := true; given; {
		given = false
		for i := range needs {
			if room > 0 && got[i] < needs[i] {
				got[i]++
				room--
				given = true
			}
		}
	}
	return got
}
