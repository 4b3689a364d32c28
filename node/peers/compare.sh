#!/usr/bin/env bash
# Compares rondo with etcd and with a bare HTTP server, in one run on this machine, medians of ROUNDS (default 3).
#
#   node/peers/compare.sh [put|get|hello|all]
#
# Needs etcd and etcdctl (Debian: etcd-server etcd-client) and jq. Everything listens on 127.0.0.1 and stops at the end.
# RONDO_BINARY and PEERS_BINARY name binaries that are built already. The figure to trust is server_cpu_us_per_op; operations per second compare only within one run.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
what=${1:-all}
rounds=${ROUNDS:-3}
seconds=${SECONDS_EACH:-5}
base=$(mktemp -d)
pids=()

stop() {
  for pid in "${pids[@]}"; do kill -9 "$pid" 2>/dev/null || true; done
  for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
  pids=()
}
trap 'stop; rm -rf "$base"' EXIT

for tool in etcd etcdctl jq; do
  command -v "$tool" >/dev/null || { echo "compare.sh needs $tool (Debian: etcd-server etcd-client jq)" >&2; exit 2; }
done
rondo=${RONDO_BINARY:-}
peers=${PEERS_BINARY:-}
if [ -z "$rondo" ]; then
  (cd "$root" && cargo build --release -q -p node)
  rondo=${CARGO_TARGET_DIR:-$root/target}/release/rondo
fi
if [ -z "$peers" ]; then
  command -v "${PROTOC:-protoc}" >/dev/null || { echo "the client of etcd is built with protoc (Debian: protobuf-compiler)" >&2; exit 2; }
  (cd "$here" && cargo build --release -q)
  peers=${CARGO_TARGET_DIR:-$here/target}/release/peers
fi

wait_for() { # a command that succeeds once the server is up
  for _ in $(seq 200); do "$@" >/dev/null 2>&1 && return; sleep 0.1; done
  echo "not up: $*" >&2; exit 1
}

up_etcd() {
  local i members=""
  rm -rf "$base"/etcd*
  for i in 1 2 3; do members+="${members:+,}n$i=http://127.0.0.1:2${i}380"; done
  for i in 1 2 3; do
    etcd --name "n$i" --data-dir "$base/etcd$i" --listen-client-urls "http://127.0.0.1:2${i}379" \
      --advertise-client-urls "http://127.0.0.1:2${i}379" --listen-peer-urls "http://127.0.0.1:2${i}380" \
      --initial-advertise-peer-urls "http://127.0.0.1:2${i}380" --initial-cluster "$members" \
      --initial-cluster-state new --logger zap --log-level error >"$base/etcd$i.log" 2>&1 &
    pids+=($!)
  done
  servers=127.0.0.1:21379,127.0.0.1:22379,127.0.0.1:23379
  wait_for env ETCDCTL_API=3 etcdctl --endpoints=127.0.0.1:21379 put x y
}

up_rondo() { # number of nodes
  local i count=$1 seeds=()
  rm -rf "$base"/rondo*
  servers=""
  for i in $(seq "$count"); do
    seeds=()
    [ "$count" -gt 1 ] && seeds=(--seeds 127.0.0.1:27901 --bootstrap-expect "$count")
    "$rondo" serve --node-id "n$i" --port "2${i}080" --peer-port "$((27900 + i))" --resp-port 0 --insecure \
      --data-dir "$base/rondo$i" --log warn "${seeds[@]}" >"$base/rondo$i.log" 2>&1 &
    pids+=($!)
    servers+="${servers:+,}127.0.0.1:2${i}080"
  done
  for i in $(seq "$count"); do wait_for curl -sf "http://127.0.0.1:2${i}080/ready"; done
}

load() { # label, then arguments of `peers load`
  local label=$1; shift
  "$peers" load --label "$label" --servers "$servers" --seconds "$seconds" \
    --pids "$(IFS=,; echo "${pids[*]}")" "$@" | tee -a "$base/results" >&2
}

path='/v1/kv/default/{k}'
rondo_load() { load "$1" --protocol http --path "$path$3" --operation "$2"; }
etcd_load() { load "$1" --protocol etcd --operation "$2"; }

for round in $(seq "$rounds"); do
  echo "round $round of $rounds" >&2
  if [[ $what =~ ^(put|get|all)$ ]]; then
    up_etcd
    [ "$what" = get ] || etcd_load "put with fsync: etcd" put
    [ "$what" = put ] || { etcd_load "fill: etcd" put; etcd_load "quorum get: etcd" get; }
    stop
    up_rondo 3
    [ "$what" = get ] || rondo_load "put with fsync: rondo" put ""
    [ "$what" = put ] || { rondo_load "fill: rondo" put ""; rondo_load "quorum get: rondo" get ""; }
    stop
  fi
  if [[ $what =~ ^(hello|all)$ ]]; then
    "$peers" floor --port 28080 >/dev/null 2>&1 & pids+=($!)
    servers=127.0.0.1:28080
    wait_for curl -sf http://127.0.0.1:28080/kv/x
    load "http get, one node: axum hello" --protocol http --path '/kv/{k}' --operation get
    stop
    up_rondo 1
    rondo_load "fill: rondo" put ""
    rondo_load "http get, one node: rondo" get "?consistency=one"
    stop
  fi
done

echo
echo "medians of $rounds, 64 clients, 100 byte values, $(nproc) cores"
jq -rs '
  def median: sort | .[(length / 2 | floor)];
  group_by(.label)[] | select(.[0].label | startswith("fill") | not)
  | [.[0].label, (map(.ops_per_s) | median), (map(.server_cpu_us_per_op) | median),
     (map(.p50_us) | median), (map(.p99_us) | median), (map(.errors) | add)]
  | @tsv' "$base/results" |
  awk -F'\t' 'BEGIN { printf "%-36s %10s %12s %9s %9s %7s\n", "", "ops/s", "cpu us/op", "p50 us", "p99 us", "errors" }
    { printf "%-36s %10d %12.1f %9d %9d %7d\n", $1, $2, $3, $4, $5, $6 }'
