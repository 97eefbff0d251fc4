#!/usr/bin/env bash
# cross/test.sh: what the scripts here say when something is missing, and that no later run trusts what is half made. Takes
# a minute at most; of packages it downloads one small one.
set -euo pipefail
cd "$(dirname "$0")/.."
. cross/targets.sh

TARGET=x86_64-unknown-linux-musl
WORK=$(mktemp -d)
trap 'if mountpoint -q "$WORK/small"; then umount "$WORK/small"; fi; rm -rf "$WORK"' EXIT
export CROSS_WAY=debian OUTPOST_CROSS=$WORK/cross CROSS_LOCK=$WORK/lock

main() {
    unknown_target
    missing_tool
    wrong_program
    rustup_that_cannot
    no_network
    full_disk
    packages
    echo "cross/test.sh: everything missing was named"
}

unknown_target() {
    says $USAGE "no target 'riscv'.*one of: .*aarch64-unknown-linux-musl" cross/build.sh riscv
    says $USAGE "no target 'riscv'" cross/toolchain.sh riscv
    says $USAGE "name a target, one or more of: .*aarch64-unknown-linux-musl" cross/build.sh
}

# What is to be packed says of itself what it is. These only say it.
wrong_program() {
    local program=$WORK/program commit
    says $USAGE "/bin/true is no program of Outpost, .*: cross/build.sh" cross/package.sh $TARGET /bin/true
    echo "outpost 0.1.0 (unknown, aarch64-unknown-linux-musl; features: gateway; rustc 1.0.0)" >"$program"
    says $USAGE "is not for $TARGET, but says: outpost .*cross/build.sh $TARGET" cross/package.sh $TARGET "$program"
    says $MISSING "no cargo: install rustup" without cargo cross/package.sh aarch64-unknown-linux-musl "$program"
    says $USAGE "'arm_cortex-a9', where .* runs on: arm_cortex-a7_neon-vfpv4" \
        cross/package.sh armv7-unknown-linux-musleabihf "$program" --openwrt-arch arm_cortex-a9
    commit=$(git rev-parse --short=12 HEAD 2>/dev/null) || { echo "There is no commit here: a program of another one is not checked."; return; }
    echo "outpost 0.1.0 (0123456789ab, $TARGET; features: gateway; rustc 1.0.0)" >"$program"
    says $USAGE "is of commit 0123456789ab, and .* of $commit: cross/build.sh anew" cross/package.sh $TARGET "$program"
}

# Before anything is downloaded, and all at once.
missing_tool() {
    says $MISSING "no dpkg-deb: .*install rustup" without dpkg-deb cross/toolchain.sh $TARGET
    says $MISSING "apt-get install gcc-aarch64-linux-gnu gcc-arm-linux-gnueabihf libc6-dev-arm64-cross libc6-dev-armhf-cross$" \
        without "a*-linux-gnu*-gcc" cross/toolchain.sh aarch64-unknown-linux-musl armv7-unknown-linux-musleabihf
    says $MISSING "no C compiler for this machine: apt-get install gcc libc6-dev$" without cc cross/toolchain.sh $TARGET
    CROSS_WAY=rustup says $MISSING "rustup alone will not do: no cc, .*: apt-get install gcc libc6-dev" without cc cross/build.sh $TARGET
    says $MISSING "no dpkg-deb: apt-get install" without dpkg-deb cross/package.sh $TARGET /bin/true
    says $MISSING "there is no .*cross/build.sh $TARGET" env CARGO_TARGET_DIR="$WORK" cross/package.sh $TARGET
    says $MISSING "no qemu-arm: apt-get install qemu-user" without "qemu-arm*" cross/run.sh armv7-unknown-linux-musleabihf /bin/true
}

# Why it is not rustup's way is said, and what it said is believed for a while, of that target alone.
rustup_that_cannot() {
    local other=x86_64-unknown-linux-gnu
    mkdir "$WORK/rustup"
    printf '#!/bin/sh\necho "error: no way" >&2\nexit 1\n' | install -m 755 /dev/stdin "$WORK/rustup/rustup"
    export CROSS_WAY=
    says $MISSING "rustup target add $TARGET .*not by rustup: it could not fetch std for $TARGET at .*: error: no way" by_rustup $TARGET
    says $MISSING "^cross: not by rustup: it could not fetch std for $TARGET at" by_rustup $TARGET
    says $MISSING "rustup target add $other .*not by rustup" by_rustup $other
    says $MISSING "not by rustup: it is not installed" without dpkg-deb cross/build.sh $TARGET
    CROSS_WAY=rustup says $OUT_OF_REACH "rustup target add $TARGET .*error: no way" by_rustup $TARGET
    # cargo-zigbuild without zig.
    cp "$WORK/rustup/rustup" "$WORK/rustup/cargo-zigbuild"
    CROSS_WAY=rustup says $MISSING "nothing here links aarch64-.*: cargo install cargo-zigbuild" by_rustup aarch64-unknown-linux-musl
    export CROSS_WAY=debian
}

# The other way ends with the tool that it misses.
by_rustup() { without dpkg-deb env PATH="$WORK/rustup:$WORK/tools" cross/build.sh "$@"; }

no_network() {
    local package version arch
    unshare -n true 2>/dev/null || { echo "Network namespaces are not permitted here: no network is not checked."; return; }
    locked libhttp-parser2.9
    # What a run leaves that broke off in the middle of a package.
    mkdir -p "$OUTPOST_CROSS/debs"
    read -r _ package version arch _ <"$CROSS_LOCK"
    head -c 1000 /bin/true >"$OUTPOST_CROSS/debs/${package}_${version}_$arch.deb"
    says $OUT_OF_REACH "index is out of reach: .*Look at the network" unshare -n cross/toolchain.sh $TARGET
    nothing_made
    rustup_builds || { echo "There is no rustup or no compiler here: crates out of reach are not checked."; return; }
    says $OUT_OF_REACH "crates of Cargo.lock are not all here, .*first: cargo fetch --locked" \
        unshare -n env CROSS_WAY=rustup RUSTUP_HOME="${RUSTUP_HOME:-$HOME/.rustup}" CARGO_HOME="$WORK/none" cross/build.sh x86_64-unknown-linux-gnu
}

full_disk() {
    local small=$WORK/small
    mkdir "$small" "$WORK/cargo"
    mount -t tmpfs -o size=1m,nr_inodes=3 outpost-test "$small" 2>/dev/null || { echo "Mounting is not permitted here: a full disk is not checked."; return; }
    says $MISSING "1 MiB left and [0-9]* are needed: make room, or name another folder: OUTPOST_CROSS=" \
        env OUTPOST_CROSS="$small" cross/toolchain.sh $TARGET
    if rustup_builds; then
        says $MISSING "1 MiB left and [0-9]* are needed: make room, or name another folder: CARGO_TARGET_DIR=" \
            env CROSS_WAY=rustup CARGO_TARGET_DIR="$small" cross/build.sh x86_64-unknown-linux-gnu
    fi
    touch "$small/filler"
    says 1 "stopped while making .*if the disk is full (df -h" env OUTPOST_CROSS="$small/more" cross/toolchain.sh $TARGET
    rustup_builds || return 0
    # Enough at first, and then what is built takes it.
    mount -o remount,size=2010m,nr_inodes=9 "$small"
    printf '#!/bin/sh\n[ "$1" = --version ] || { head -c 20M /dev/zero >"$CARGO_TARGET_DIR/built"; exit 101; }\n' \
        | install -m 755 /dev/stdin "$WORK/cargo/cargo"
    says $MISSING "MiB left and [0-9]* are needed: if that is why it failed, .*run it again" \
        env CROSS_WAY=rustup CARGO_TARGET_DIR="$small" PATH="$WORK/cargo:$PATH" cross/build.sh x86_64-unknown-linux-gnu
}

# What can be wrong with packages; the index must be within reach to see it.
packages() {
    local package=libhttp-parser2.9 code=0
    locked $package "s/ 2\.[^ ]*/ 0.0-0/"
    cross/toolchain.sh $TARGET 2>"$WORK/said" || code=$?
    if ((code == OUT_OF_REACH)); then
        echo "Debian's index is out of reach: packages are not checked."
        return
    fi
    said $code $STALE "no longer has what cross/toolchain.lock names.*: cross/toolchain.sh --lock"
    locked $package "s/^[0-9a-f]*/$(sha256sum </dev/null | cut -d' ' -f1)/"
    says $STALE "another checksum than toolchain.lock names, and was removed" cross/toolchain.sh $TARGET
    nothing_made
    # Unpacked halfway, as a full disk ends it; and a second time, which finds what the first has left.
    locked $package
    mkdir "$WORK/dpkg"
    printf '#!/bin/sh\nmkdir -p "$3/usr/bin" && cp /bin/true "$3/usr/bin/rustc"\nexit 2\n' | install -m 755 /dev/stdin "$WORK/dpkg/dpkg-deb"
    for _ in 1 2; do
        says 2 "stopped while unpacking the toolchain; nothing half made is used" env PATH="$WORK/dpkg:$PATH" cross/toolchain.sh $TARGET
        [[ ! -e $OUTPOST_CROSS/rust ]] || { say "a failed run left a toolchain"; exit 1; }
    done
}

rustup_builds() { command -v rustup && command -v x86_64-linux-gnu-gcc; } >/dev/null

# Exit code, what the message must match, command.
says() {
    local code=0 wanted=$1 pattern=$2
    shift 2
    "$@" >/dev/null 2>"$WORK/said" || code=$?
    said $code "$wanted" "$pattern"
}

# What the last command said, as one line.
said() {
    if (($1 == $2)) && tr '\n' ' ' <"$WORK/said" | sed 's/ $//' | grep -q "$3"; then return; fi
    say "exit code $1 and this message, where $2 and '$3' were due:"
    cat "$WORK/said" >&2
    exit 1
}

# A command where the tools that match are not installed.
without() {
    local tools=$WORK/tools
    rm -rf "$tools"
    mkdir "$tools"
    find -L /bin /usr/bin /sbin /usr/sbin -maxdepth 1 -type f ! -name "$1" -exec ln -sft "$tools" {} + 2>/dev/null || true
    shift
    PATH=$tools "$@"
}

# A lock file of one package, changed by a program of sed.
locked() { grep " $1 " cross/toolchain.lock | sed "${2:-}" >"$CROSS_LOCK"; }

nothing_made() {
    local left
    left=$(find "$OUTPOST_CROSS" -mindepth 1 -maxdepth 1 ! -name apt ! -name debs ! -name lock ! -name log ! -name rustup-said; find "$OUTPOST_CROSS/debs" -name '*.deb' 2>/dev/null)
    [[ -z $left ]] || { say "a failed run left $left"; exit 1; }
}

main
