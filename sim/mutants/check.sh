#!/bin/sh
# Applies each planted bug to a copy of the last commit, builds it, and runs seeds until the first failure.
# Prints a row for each; ends with 1 when one survives, or when the unpatched build fails.
# usage: sim/mutants/check.sh [SEEDS] [PATCH...]     SEEDS is how many seeds each gets, 500 when absent
set -eu
root=$(git -C "$(dirname "$0")" rev-parse --show-toplevel)
seeds=${1:-500}
[ $# -gt 0 ] && shift
[ $# -gt 0 ] || set -- "$root"/sim/mutants/*.patch
copy=$root/target/mutants/copy
CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$root/target}/mutants
export CARGO_TARGET_DIR
survivors=0

fresh_copy() {
    rm -rf "$copy"
    mkdir -p "$copy"
    git -C "$root" archive HEAD | tar -x -C "$copy"
    # Unchanged files keep their time of change, so that only what a patch touches is built again.
    git -C "$copy" init -q
}

build() {
    (cd "$copy" && cargo build --release --quiet -p sim)
}

printf '%-26s %-10s %-15s %s\n' mutant 'first seed' oracle "seeds that fail"
for patch; do
    fresh_copy
    git -C "$copy" apply "$patch"
    build
    rows=$(cd "$copy" && "$CARGO_TARGET_DIR"/release/rondo-sim run --seeds "0..$seeds" --json || true)
    failed=$(printf '%s\n' "$rows" | grep -v '"seeds":' | grep -v '"verdict":"pass"' || true)
    count=$(printf '%s' "$failed" | grep -c . || true)
    if [ "$count" -eq 0 ]; then
        survivors=$((survivors + 1))
        printf '%-26s %-10s %-15s %s\n' "$(basename "$patch" .patch)" none SURVIVED "0 of $seeds"
        continue
    fi
    first=$(printf '%s\n' "$failed" | head -n 1)
    seed=$(printf '%s' "$first" | sed 's/.*"seed":\([0-9]*\).*/\1/')
    oracle=$(printf '%s' "$first" | sed 's/.*"oracle":"\([^"]*\)".*/\1/')
    printf '%-26s %-10s %-15s %s\n' "$(basename "$patch" .patch)" "$seed" "$oracle" "$count of $seeds"
done
[ "$survivors" -eq 0 ]
