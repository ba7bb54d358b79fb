#!/usr/bin/env bash
# Runs three members on this machine in the foreground until ctrl-C. Used by `make cluster`; needs bin/coordd.
# The data lies in cluster.coord, or in $CLUSTER_DIR, and is kept.
set -euo pipefail
cd "$(dirname "$0")/.."

dir=${CLUSTER_DIR:-cluster.coord}
mkdir -p "$dir"
initial=m1=http://127.0.0.1:2380,m2=http://127.0.0.1:22380,m3=http://127.0.0.1:32380
pids=()
trap 'kill "${pids[@]}" 2>/dev/null || true; wait || true' EXIT

member() { # NAME CLIENT-PORT PEER-PORT
	local command=(bin/coordd --name "$1" --data-dir "$dir/$1" --initial-cluster "$initial"
		--listen-client-urls "http://127.0.0.1:$2" --advertise-client-urls "http://127.0.0.1:$2"
		--listen-peer-urls "http://127.0.0.1:$3" --initial-advertise-peer-urls "http://127.0.0.1:$3" --log-format console)
	"${command[@]}" 2> >(sed -u "s/^/$1 | /" >&2) &
	pids+=($!)
	echo "$1 runs as process $!; to start it again after kill -9 $!: ${command[*]}"
}

member m1 2379 2380
member m2 22379 22380
member m3 32379 32380
echo "export COORDCTL_ENDPOINTS=127.0.0.1:2379,127.0.0.1:22379,127.0.0.1:32379"
for pid in "${pids[@]}"; do wait "$pid" || true; done
