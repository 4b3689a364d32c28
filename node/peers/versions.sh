#!/usr/bin/env bash
# Compares two builds of rondo with each other: what a put or a get costs the servers with the one and with the other.
#
#   node/peers/versions.sh OLD_BINARY NEW_BINARY [put|get]
#
# Both clusters of three nodes are up all the time and take the load in turns, PAIRS times (default 15) SECONDS_EACH (default 2): what
# else the machine does then falls on both. A pair's figure is new by old; its median and quartiles are printed. Needs jq.
# PEERS_BINARY names a load generator that is built already.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
old=${1:?the binary to compare with} new=${2:?the binary to judge} what=${3:-put}
pairs=${PAIRS:-15}
seconds=${SECONDS_EACH:-2}
base=$(mktemp -d)
all=()

trap 'kill -9 "${all[@]}" 2>/dev/null || true; wait 2>/dev/null || true; rm -rf "$base"' EXIT
command -v jq >/dev/null || { echo "versions.sh needs jq" >&2; exit 2; }
peers=${PEERS_BINARY:-}
if [ -z "$peers" ]; then
  (cd "$here" && cargo build --release -q)
  peers=${CARGO_TARGET_DIR:-$here/target}/release/peers
fi

up() { # a name, a binary, and the first digit of its ports
  local name=$1 binary=$2 digit=$3 i pids=() servers=()
  for i in 1 2 3; do
    "$binary" serve --node-id "n$i" --port "$digit${i}080" --peer-port "$digit${i}090" --resp-port 0 --insecure \
      --data-dir "$base/$name$i" --log warn --seeds "127.0.0.1:${digit}1090" --bootstrap-expect 3 >"$base/$name$i.log" 2>&1 &
    pids+=($!)
    servers+=("127.0.0.1:$digit${i}080")
  done
  all+=("${pids[@]}")
  for i in "${servers[@]}"; do
    for _ in $(seq 200); do curl -sf "http://$i/ready" >/dev/null && continue 2; sleep 0.1; done
    echo "not up: $i" >&2; exit 1
  done
  (IFS=,; echo "${pids[*]} ${servers[*]}") >"$base/$name"
}

load() { # a name and an operation
  local pids servers
  read -r pids servers <"$base/$1"
  "$peers" load --label "$1" --servers "$servers" --seconds "$seconds" --pids "$pids" --protocol http --path '/v1/kv/default/{k}' --operation "$2"
}

up old "$old" 1
up new "$new" 2
for name in old new; do load "$name" put >/dev/null; done
for pair in $(seq "$pairs"); do
  order="old new"
  [ $((pair % 2)) = 0 ] && order="new old"
  for name in $order; do load "$name" "$what" >>"$base/results"; done
done
jq -rs --arg what "$what" '
  def at(q): sort | .[((length - 1) * q | round)];
  def pairs(field): [range(0; length; 2) as $i | .[$i:$i + 2] | (map(select(.label == "new"))[0][field]) / (map(select(.label == "old"))[0][field])];
  def median_of(name; field): map(select(.label == name)[field]) | at(0.5);
  ("server_cpu_us_per_op", "ops_per_s", "p99_us") as $field
  | pairs($field) as $ratios
  | "\($what) \($field): old \(median_of("old"; $field)), new \(median_of("new"; $field)); new by old: median \($ratios | at(0.5) * 1000 | round / 1000), quartiles \($ratios | at(0.25) * 1000 | round / 1000) to \($ratios | at(0.75) * 1000 | round / 1000)"
' "$base/results"
jq -rs 'map(.errors) | add | select(. > 0) | "\(.) errors: the figures mean little"' "$base/results"
