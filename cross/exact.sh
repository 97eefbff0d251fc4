#!/usr/bin/env bash
# Runs int8 models under TensorFlow Lite with the product's own loader on emulated ARM processors, and holds what they answer to
# what Python's interpreter does, bit for bit.
#
# TensorFlow Lite's library is a third party's build from PyPI, for tests only; it lies below target/ and is not installed.
#
# Needs Debian 12, as root to install packages or with them there already, python3 with venv, and rustup for the standard libraries.
set -euo pipefail
cd "$(dirname "$0")/lite"
. ../packages.sh

# Target, emulator, libraries of the target, processor, PyPI's word for it.
RUNS=(
    "aarch64-unknown-linux-gnu qemu-aarch64 /usr/aarch64-linux-gnu cortex-a53 manylinux_2_35_aarch64"
    "aarch64-unknown-linux-gnu qemu-aarch64 /usr/aarch64-linux-gnu max manylinux_2_35_aarch64"
    "armv7-unknown-linux-gnueabihf qemu-arm /usr/arm-linux-gnueabihf cortex-a7 manylinux_2_35_armv7l"
)
# Exit code where the libraries can't be fetched and are not here.
OUT_OF_REACH=3
TARGETS=(aarch64-unknown-linux-gnu armv7-unknown-linux-gnueabihf)

main() {
    packages qemu-user g++-aarch64-linux-gnu g++-arm-linux-gnueabihf python3-venv
    timeout 300 rustup target add "${TARGETS[@]}" || exit "$OUT_OF_REACH"
    export CARGO_TARGET_DIR=$PWD/../../target/lite CARGO_INCREMENTAL=0
    export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
    export CARGO_TARGET_ARMV7_UNKNOWN_LINUX_GNUEABIHF_LINKER=arm-linux-gnueabihf-gcc
    export BINDGEN_EXTRA_CLANG_ARGS_aarch64_unknown_linux_gnu="--sysroot=/ -I/usr/aarch64-linux-gnu/include"
    export BINDGEN_EXTRA_CLANG_ARGS_armv7_unknown_linux_gnueabihf="--sysroot=/ -I/usr/arm-linux-gnueabihf/include"
    fetch || exit "$OUT_OF_REACH"
    LIBCLANG_PATH=$(dirname "$(find "$CARGO_TARGET_DIR/python" -name libclang.so | head -n 1)")
    export LIBCLANG_PATH
    cargo test --locked --features exact --no-run "${TARGETS[@]/#/--target=}"
    local run
    for run in "${RUNS[@]}"; do
        # shellcheck disable=SC2086
        test_on $run
    done
}

# The libraries, each from the package for its processor, and clang for tflitec's bindings.
fetch() {
    local python=$CARGO_TARGET_DIR/python run platform
    [[ ! -e $python/.whole ]] || return 0
    rm -rf "$python"
    python3 -m venv "$python" || return 1
    "$python/bin/pip" install -q --no-deps libclang==18.1.1 || return 1
    for run in "${RUNS[@]}"; do
        platform=${run##* }
        "$python/bin/pip" install -q --no-deps --only-binary=:all: --platform "$platform" --target "$python/$platform" --upgrade \
            pymicro-wakeword==2.5.0 || return 1
    done
    touch "$python/.whole"
}

# One run of what has been built.
test_on() {
    local target=$1 emulator=$2 root=$3 cpu=$4 platform=$5 name
    name=CARGO_TARGET_${target^^}_RUNNER
    echo "-- $target on $cpu"
    env "${name//-/_}=$emulator -cpu $cpu -L $root" \
        OUTPOST_TEST_TFLITE="$(find "$CARGO_TARGET_DIR/python/$platform" -name libtensorflowlite_c.so | head -n 1)" \
        cargo test --locked --features exact --quiet --target "$target" to_the_bit
}

main
