package difftest

// weights says how often each kind of step occurs in a sequence.
type weights map[kindID]int

var common = weights{
	kindPut: 22, kindRange: 20, kindRangeStream: 4, kindDelete: 8, kindTxn: 13, kindCompare: 8, kindTxnOverlap: 3,
	kindFill: 1, kindCompact: 3,
	kindGrant: 4, kindRevoke: 3, kindKeepAlive: 2, kindTimeToLive: 3, kindLeases: 1,
	kindWatch: 5, kindWatchInvalid: 1, kindCancelWatch: 1, kindProgress: 1, kindStatus: 1,
}

// rare holds steps that cost much time or change what the rest of the sequence can do: a sequence in so many has one.
var rare = []struct {
	kind kindID
	in   int
}{
	{kindPutTooLarge, 25}, {kindTxnOversized, 8}, {kindShortLease, 10}, {kindNotification, 60}, {kindBulk, 100},
	{kindNoSpace, 20}, {kindLostPrev, 15}, {kindCloseSend, 20}, {kindFill, 2},
}

// generate returns the steps of the sequence of a seed.
func generate(seed uint64) []step {
	d := newDice(seed)
	total := 0
	for k := kindPut; k <= kindStatus; k++ {
		total += common[k]
	}
	steps := make([]step, leastSteps+d.IntN(8))
	for i := range steps {
		steps[i] = step{common.at(d.IntN(total)), d.Uint64()}
	}
	for _, r := range rare {
		if d.IntN(r.in) == 0 {
			steps[d.IntN(len(steps))] = step{r.kind, d.Uint64()}
		}
	}
	return steps
}

// at returns the kind of the n-th of all weights.
func (w weights) at(n int) kindID {
	for k := kindPut; ; k++ {
		if n < w[k] {
			return k
		}
		n -= w[k]
	}
}
