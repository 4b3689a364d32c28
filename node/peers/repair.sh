#!/usr/bin/env bash
# What a repair at full speed costs those who read and write meanwhile: the p99 of a load without it and with it, medians of ROUNDS (default 3).
#
#   node/peers/repair.sh
#
# Three nodes on 127.0.0.1. Each round the third is away while KEYS keys are written through the first, which then loses its directory and
# with it the hints: now only comparing the copies brings the third what it missed. The load is on 1,000 keys that are equal everywhere.
# Needs jq. RONDO_BINARY names a binary that is built already.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
rounds=${ROUNDS:-3}
keys=${KEYS:-100000}
clients=${CLIENTS:-16}
rate=${REPAIR_RATE:-8MiB}
base=$(mktemp -d)
declare -A pids=()

trap 'kill -9 "${pids[@]}" 2>/dev/null || true; rm -rf "$base"' EXIT
command -v jq >/dev/null || { echo "repair.sh needs jq" >&2; exit 2; }
rondo=${RONDO_BINARY:-}
if [ -z "$rondo" ]; then
  (cd "$root" && cargo build --release -q -p node)
  rondo=${CARGO_TARGET_DIR:-$root/target}/release/rondo
fi

wait_for() { # what it waits for, then a command that succeeds some time
  local what=$1; shift
  for _ in $(seq 1200); do "$@" >/dev/null 2>&1 && return; sleep 0.1; done
  echo "not in two minutes: $what" >&2; exit 1
}

start() { # the number of a node
  "$rondo" serve --node-id "n$1" --port "2${1}080" --peer-port "$((27900 + $1))" --resp-port 0 --data-dir "$base/n$1" \
    --seeds 127.0.0.1:27901,127.0.0.1:27902 --bootstrap-expect 3 --repair-rate "$rate" --repair-every 0 --log warn >>"$base/n$1.log" 2>&1 &
  pids[$1]=$!
}

stop() { # the number of a node, and how
  kill "-$2" "${pids[$1]}"
  wait "${pids[$1]}" 2>/dev/null || true
}

is_ready() { curl -sf "http://127.0.0.1:2${1}080/ready"; }
status() { curl -sf "http://127.0.0.1:2${1}080/v1/status"; }
# Nobody owes anybody anything, all units are taken, and all trees are there.
is_quiet() {
  local i
  for i in 1 2 3; do
    status "$i" | jq -e '.hints.stored + .hints.owed + .hints.in_flight == 0 and (.hints.counting | not)
      and .repairs.growing_trees == 0 and (.change.live | length) == 1 and .change.partial == 0' >/dev/null || return 1
  done
}
bench() { # what, then options
  "$rondo" bench "$@" -o json -s "$servers"
}
p99() { bench mix -k 1000 -c "$clients" -d "${1}s" | jq -c '[.get.latency_us.p99, .put.latency_us.p99]'; }

servers=127.0.0.1:21080,127.0.0.1:22080
for i in 1 2 3; do start "$i"; done
for i in 1 2 3; do wait_for "node $i is ready" is_ready "$i"; done
bench put -k 1000 -d 2s --consistency all >/dev/null
for round in $(seq "$rounds"); do
  stop 3 KILL
  servers=127.0.0.1:21080 bench put -k "$keys" -d 15s --value-size 1000 --seed "$round" -c 64 >/dev/null
  stop 1 KILL
  rm -rf "$base/n1"
  start 1
  start 3
  for i in 1 2 3; do wait_for "node $i is ready" is_ready "$i"; done
  wait_for "all is quiet" is_quiet
  before=$(p99 10)
  "$rondo" repair -s 127.0.0.1:22080 >"$base/repair" 2>&1 &
  repair=$!
  began=$(date +%s%N)
  with=$(p99 "${SECONDS_WITH:-6}")
  kill -0 "$repair" 2>/dev/null || echo "the repair ended before the load: raise KEYS" >&2
  wait "$repair" || { cat "$base/repair" >&2; exit 1; }
  took=$(( ($(date +%s%N) - began) / 1000000 ))
  after=$(p99 10)
  echo "{\"before\": $before, \"with\": $with, \"after\": $after, \"took_ms\": $took}" | tee -a "$base/results" >&2
done
echo "p99 in us, medians of $rounds, $clients clients, $(nproc) cores, $rate a second for repair"
jq -rs '
  def median: sort | .[(length / 2 | floor)];
  def row(at): [(map(.before[at]) | median), (map(.with[at]) | median), (map(.after[at]) | median)];
  def told(name): . as [$before, $with, $after]
    | "\(name): \($before) before, \($with) during a repair, \($after) after; \($with * 200 / ($before + $after) | round / 100) x";
  (row(0) | told("get")), (row(1) | told("put")), "a repair took \(map(.took_ms) | median) ms"' "$base/results"
