#!/usr/bin/env bash
# Loads Mesa's Teflon delegate as Debian 13 builds it, with the product's own loader, and sees it refuse where there is no device.
#
# Debian builds it for ARM only, so it runs emulated; its packages are unpacked below target/ and not installed.
#
# Needs Debian 12, as root to install packages or with them there already, and rustup for the standard library.
set -euo pipefail
cd "$(dirname "$0")/lite"
. ../packages.sh

TARGET=aarch64-unknown-linux-gnu
# Exit code where the packages or the standard library can't be fetched and are not here.
OUT_OF_REACH=3
PACKAGES=(mesa-teflon-delegate libc6 libgcc-s1 libexpat1 libdrm2 libzstd1 zlib1g)

main() {
    packages qemu-user gcc-aarch64-linux-gnu libc6-dev-arm64-cross
    timeout 300 rustup target add "$TARGET" || exit "$OUT_OF_REACH"
    export CARGO_TARGET_DIR=$PWD/../../target/lite CARGO_INCREMENTAL=0
    local root=$CARGO_TARGET_DIR/root
    mkdir -p "$CARGO_TARGET_DIR"
    unpack "$root" || exit "$OUT_OF_REACH"
    export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
    export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="qemu-aarch64 -L $root"
    OUTPOST_TEST_TEFLON=$root/usr/lib/teflon/libteflon.so \
        cargo test --locked --quiet --target "$TARGET" mesas_delegate -- --nocapture
}

# The packages of Debian 13 for arm64, by an apt that keeps to a folder of its own.
unpack() {
    local root=$1 apt=$CARGO_TARGET_DIR/apt deb
    if [[ -e $root/.whole ]]; then return; fi
    rm -rf "$apt" "$root"
    mkdir -p "$apt"/{lists,cache}/partial "$apt/debs" "$root"
    touch "$apt/status"
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian trixie main" >"$apt/sources"
    cat >"$apt/conf" <<CONF
APT::Architecture "arm64";
APT::Architectures { "arm64"; };
APT::Sandbox::User "root";
Dir::State::lists "$apt/lists";
Dir::State::status "$apt/status";
Dir::Cache "$apt/cache";
Dir::Etc::sourcelist "$apt/sources";
Dir::Etc::sourceparts "-";
CONF
    export APT_CONFIG=$apt/conf
    timeout 300 apt-get update -q || return 1
    (cd "$apt/debs" && timeout 300 apt-get download -q "${PACKAGES[@]}") || return 1
    unset APT_CONFIG
    for deb in "$apt"/debs/*.deb; do dpkg-deb -x "$deb" "$root"; done
    # Debian 13 finds its loader through a link that a package of its own brings.
    [[ -e $root/lib ]] || ln -s usr/lib "$root/lib"
    touch "$root/.whole"
}

main
