#!/usr/bin/env bash
# cross/build.sh TARGET... [-- CARGO ARGUMENTS]: the gateway's program for other machines, small and reproducible.
#
#   cross/build.sh aarch64-unknown-linux-musl
#   cross/build.sh armv7-unknown-linux-musleabihf -- --features gateway,websocket
#
# The program lies in target/cross/TARGET/gateway/outpost, or under another profile of cargo, if CROSS_PROFILE
# names one. Two builds of one commit give the same bytes: paths of this machine are cut from them, and nothing depends on
# when they are made. What it needs and what it does about it: env.sh.
# Exit codes: 2 unknown target, 3 no toolchain within reach, 4 something to install, 5 toolchain.lock is out of date.
set -euo pipefail
cd "$(dirname "$0")/.."
. cross/env.sh

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
root=$PWD
# They would take the place of those that each target has.
unset RUSTFLAGS CARGO_ENCODED_RUSTFLAGS
for target in "${targets[@]}"; do
    describe_target "$target"
    export "CARGO_TARGET_$(env_name "$target")_RUSTFLAGS=--remap-path-prefix=$root=/outpost --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo --remap-path-prefix=$CROSS_HOME=/cross ${CODEGEN[*]}"
done
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}
export SOURCE_DATE_EPOCH
say "building for ${targets[*]} with $("${CARGO[0]}" --version) ($CROSS_WAY)"
"${CARGO[@]}" --locked --profile "$PROFILE" --bin outpost --no-default-features "${arguments[@]}" "${targets[@]/#/--target=}"
for target in "${targets[@]}"; do
    program=$(program_of "$target")
    say "$program: $(stat -c %s "$program") bytes"
done
