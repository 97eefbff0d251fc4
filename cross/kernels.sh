#!/usr/bin/env bash
# Runs the tests of the language model's kernels for ARM, on an emulated processor for every instruction set they exist for.
#
# Each run names the instruction sets that its processor must show, slowest first: a test fails where others are found, so
# none is left out unseen. They are a crate of their own (src/glm/kernels): the whole agent takes C compilers for other
# processors and many minutes more.
#
# Needs Debian 12, as root to install packages or with them there already, and rustup for the standard libraries.
set -euo pipefail
cd "$(dirname "$0")/.."
. cross/packages.sh

# Target, emulator, libraries of the target, processor, instruction sets.
RUNS=(
    "aarch64-unknown-linux-gnu qemu-aarch64 /usr/aarch64-linux-gnu cortex-a53 portable neon"
    "aarch64-unknown-linux-gnu qemu-aarch64 /usr/aarch64-linux-gnu cortex-a76 portable neon neon_dotprod"
    "aarch64-unknown-linux-gnu qemu-aarch64 /usr/aarch64-linux-gnu max portable neon neon_dotprod neon_i8mm"
    "armv7-unknown-linux-gnueabihf qemu-arm /usr/arm-linux-gnueabihf cortex-a9 portable armv7_neon"
    "armv7-unknown-linux-gnueabihf qemu-arm /usr/arm-linux-gnueabihf cortex-a7 portable armv7_neon"
)
# Exit code where the standard libraries can't be fetched and are not here.
OUT_OF_REACH=3
TARGETS=(aarch64-unknown-linux-gnu armv7-unknown-linux-gnueabihf)

main() {
    packages qemu-user gcc-aarch64-linux-gnu gcc-arm-linux-gnueabihf libc6-dev-arm64-cross libc6-dev-armhf-cross
    timeout 300 rustup target add "${TARGETS[@]}" || exit "$OUT_OF_REACH"
    export CARGO_TARGET_DIR=$PWD/target/cross CARGO_INCREMENTAL=0
    export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
    export CARGO_TARGET_ARMV7_UNKNOWN_LINUX_GNUEABIHF_LINKER=arm-linux-gnueabihf-gcc
    cargo test --locked --package outpost-kernels --no-run "${TARGETS[@]/#/--target=}"
    local run
    for run in "${RUNS[@]}"; do
        # shellcheck disable=SC2086
        test_on $run
    done
}

# One run of what has been built.
test_on() {
    local target=$1 emulator=$2 libraries=$3 processor=$4 runner
    shift 4
    echo "-- $target on $processor: $*"
    runner=CARGO_TARGET_$(tr a-z- A-Z_ <<<"$target")_RUNNER
    env "$runner=$emulator -L $libraries -cpu $processor" OUTPOST_TEST_ISAS="$*" \
        cargo test --locked --quiet --package outpost-kernels --target "$target"
}

main
