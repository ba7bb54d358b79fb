#!/usr/bin/env bash
# Shows the main job on one real member: two contenders for a lock, a hand-off, and fencing tokens that grow.
# Used by `make demo`; needs bin/coordd and bin/coordctl. Takes a free port and a temporary directory, and cleans up.
set -euo pipefail
cd "$(dirname "$0")/.."

dir=$(mktemp -d)
server=
cleanup() {
	if [ -n "$server" ]; then kill "$server" 2>/dev/null || true; wait "$server" 2>/dev/null || true; fi
	rm -rf "$dir"
}
trap cleanup EXIT

start() { # one attempt on random ports
	local client="http://127.0.0.1:$1" peer="http://127.0.0.1:$2"
	bin/coordd --data-dir "$dir/data" --listen-client-urls "$client" --advertise-client-urls "$client" \
		--listen-peer-urls "$peer" --initial-advertise-peer-urls "$peer" 2>"$dir/log" &
	server=$!
	for _ in $(seq 300); do
		if grep -q 'ready to serve client requests' "$dir/log"; then return 0; fi
		if ! kill -0 "$server" 2>/dev/null; then return 1; fi
		sleep 0.1
	done
	return 1
}

for attempt in 1 2 3 4 5; do
	port=$((20000 + RANDOM % 20000))
	if start $port $((port + 1)); then break; fi
	if [ "$attempt" = 5 ]; then cat "$dir/log" >&2; exit 1; fi
	rm -rf "$dir/data"
done
export COORDCTL_ENDPOINTS=127.0.0.1:$port
echo "one member serves on $COORDCTL_ENDPOINTS"

work() { # NAME SECONDS: take the lock, work, let go
	bin/coordctl lock demo/job --ttl 5 -- sh -c \
		"echo \"$1 holds the lock, fencing token \$COORD_FENCING_TOKEN\" | tee -a $dir/order; sleep $2; echo \"$1 lets go\""
}

echo "two contenders for the lock demo/job:"
work alice 1 & alice=$!
until [ -s "$dir/order" ]; do sleep 0.05; done
echo "bob asks for it too, and waits"
work bob 0.2 & bob=$!
wait "$alice" "$bob"

tokens=$(sed 's/.*token //' "$dir/order")
if [ "$(wc -l <"$dir/order")" != 2 ] || [ "$tokens" != "$(sort -n <<<"$tokens")" ]; then
	echo "the demo went wrong:" >&2
	cat "$dir/order" "$dir/log" >&2
	exit 1
fi
echo "handed over in one commit; the later holder has the greater token, so a resource can refuse the earlier one"
