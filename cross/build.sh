#!/usr/bin/env bash
# cross/build.sh TARGET... [-- CARGO ARGUMENTS]: the gateway's program for other machines, small and reproducible.
#
#   cross/build.sh aarch64-unknown-linux-musl
#   cross/build.sh armv7-unknown-linux-musleabihf -- --features gateway,websocket
#
# The program lies in target/cross/TARGET/gateway/outpost, or under another profile of cargo, if CROSS_PROFILE
# names one. Two builds of one commit give the same bytes: paths of this machine are cut from them, and nothing depends on
# when they are made. What it needs and what it does about it: env.sh.
# Exit codes: 2 unknown target, 3 toolchain or crates out of reach, 4 something to install, 5 toolchain.lock is out of date.
set -euo pipefail
cd "$(dirname "$0")/.."
. cross/env.sh

# What a build takes of the disk beside what is there, with something to spare.
MIB_MIN=2000
targets=() arguments=(--features gateway)
while (($#)); do
    case $1 in
    --) shift; arguments=("$@"); break ;;
    -h | --help) sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; echo "Targets: ${TARGETS[*]}"; exit ;;
    *) targets+=("$1"); shift ;;
    esac
done
if ((${#targets[@]} == 0)); then
    say "name a target, one or more of: ${TARGETS[*]}"
    exit $USAGE
fi

use_targets "${targets[@]}"
has_room "$CARGO_TARGET_DIR" $MIB_MIN "make room, or name another folder: CARGO_TARGET_DIR=/some/where" || exit $MISSING
root=$PWD
# They would take the place of those that each target has.
unset RUSTFLAGS CARGO_ENCODED_RUSTFLAGS
for target in "${targets[@]}"; do
    describe_target "$target"
    # The last that fits counts, and the folder of builds may lie elsewhere.
    export "CARGO_TARGET_$(env_name "$target")_RUSTFLAGS=--remap-path-prefix=$root=/outpost --remap-path-prefix=$CARGO_TARGET_DIR=/outpost/target/cross --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo --remap-path-prefix=$CROSS_HOME=/cross ${CODEGEN[*]}"
done
SOURCE_DATE_EPOCH=$(commit_time)
export SOURCE_DATE_EPOCH
# Linked as a whole the program is optimised as its last crate is; what was made small before that stays small (Cargo.toml).
build() { "${CARGO[@]}" --locked --profile "$PROFILE" --bin outpost --no-default-features "${arguments[@]}" --target="$1" -- -Copt-level=3; }
say "building for ${targets[*]} with $(cargo --version) ($CROSS_WAY)"
for target in "${targets[@]}"; do
    build "$target" && continue
    code=$?
    # Cargo ends with the same code whatever is wrong.
    has_room "$CARGO_TARGET_DIR" $MIB_MIN "if that is why it failed, see above, make room and run it again; what is built is kept" || exit $MISSING
    if CARGO_NET_RETRY=0 cargo fetch --quiet --locked "${targets[@]/#/--target=}"; then exit $code; fi
    say "the crates of Cargo.lock are not all here, and cargo cannot fetch them, see above. When the network is back, run it again;
    what has come is kept. To build without network, first: cargo fetch --locked"
    exit $OUT_OF_REACH
done
for target in "${targets[@]}"; do
    program=$(program_of "$target")
    say "$program: $(stat -c %s "$program") bytes"
done
