package suite

import "time"

// leaderTimeout bounds the search for the leader of a cluster that has one or is about to elect it.
const leaderTimeout = 30 * time.Second

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func megabytes(bytes int64) float64 { return float64(bytes) / 1e6 }
