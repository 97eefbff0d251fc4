# shellcheck shell=bash
# Makes cargo build for targets of Outpost. Sourced by the scripts beside it, which then call `use_targets TARGET...`
# and `$CARGO build`.
#
# Two ways, the first that works:
#   rustup   rustup has std for the targets, or can fetch it; zig links (cargo-zigbuild), or Debian's cross compilers do
#   debian   cross/toolchain.sh makes a toolchain out of Debian packages; for machines that reach package registries only
# CROSS_WAY=rustup or CROSS_WAY=debian chooses.

cross_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=targets.sh
. "$cross_dir/targets.sh"

CROSS_HOME=${OUTPOST_CROSS:-${XDG_CACHE_HOME:-$HOME/.cache}/outpost-cross}
# How long rustup may try before the other way is taken.
RUSTUP_SECONDS_MAX=300

# Sets CARGO, an array, and exports what cargo, cc and rustc need.
use_targets() {
    local target
    for target in "$@"; do describe_target "$target" || exit $USAGE; done
    case ${CROSS_WAY:-} in
    rustup) rustup_has "$@" || { say "rustup has no std for $* and cannot fetch it: $RUSTUP_SAID"; exit $OUT_OF_REACH; } ;;
    debian) ;;
    "") if linkable "$@" && rustup_has "$@"; then CROSS_WAY=rustup; else CROSS_WAY=debian; fi ;;
    *) say "CROSS_WAY is '$CROSS_WAY' and must be rustup or debian"; exit $USAGE ;;
    esac
    "use_$CROSS_WAY" "$@"
    # As cross/toolchain.sh builds std: dates beyond 2038 on armv7 with musl.
    export RUST_LIBC_UNSTABLE_MUSL_V1_2_3=1 CARGO_INCREMENTAL=0
    # Builds of two compilers in one folder would build everything anew in turn.
    export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$(dirname "$cross_dir")/target/cross}
}

# Whether something here can link what rustup's std is good for.
linkable() {
    local target
    command -v cargo-zigbuild >/dev/null && return
    for target in "$@"; do
        describe_target "$target"
        [[ -z $MUSL || $DEB == amd64 ]] && command -v "$GNU-gcc" >/dev/null || return 1
    done
}

rustup_has() {
    local installed target missing=() answer=$CROSS_HOME/rustup-said
    command -v rustup >/dev/null || { RUSTUP_SAID="it is not installed"; return 1; }
    installed=$(rustup target list --installed 2>/dev/null)
    for target in "$@"; do
        grep -qx "$target" <<<"$installed" || missing+=("$target")
    done
    ((${#missing[@]})) || return 0
    # It takes minutes to find out that there is no way, and a day later there may be one.
    if [[ -z ${CROSS_WAY:-} && -n $(find "$answer" -mmin -1440 2>/dev/null) ]]; then return 1; fi
    say "rustup target add ${missing[*]}"
    mkdir -p "$CROSS_HOME"
    if RUSTUP_MAX_RETRIES=1 timeout $RUSTUP_SECONDS_MAX rustup target add "${missing[@]}" >"$answer" 2>&1; then
        rm "$answer"
        return
    fi
    RUSTUP_SAID=$(grep -m 1 -i error "$answer" || echo "no answer within $RUSTUP_SECONDS_MAX s")
    say "rustup cannot: $RUSTUP_SAID"
    return 1
}

use_rustup() {
    local target
    CARGO=(cargo build)
    if command -v cargo-zigbuild >/dev/null; then
        CARGO=(cargo zigbuild)
    fi
    for target in "$@"; do
        describe_target "$target"
        if [[ ${CARGO[1]} == build ]]; then
            linkable "$target" || {
                say "$target needs zig to link: cargo install cargo-zigbuild --locked && pip install ziglang; or CROSS_WAY=debian"
                exit $MISSING
            }
            compiler "$target" "$GNU-gcc" "$GNU-gcc"
        fi
        if [[ $target == armv7-*-musleabihf ]]; then
            say "the std that rustup has for $target reads dates after 2038 wrongly; CROSS_WAY=debian builds one that does not"
        fi
    done
}

use_debian() {
    local target
    "$cross_dir/toolchain.sh" "$@" || exit $?
    export PATH=$CROSS_HOME/rust/usr/bin:$PATH RUSTC=$CROSS_HOME/rust/usr/bin/rustc
    export LD_LIBRARY_PATH=$CROSS_HOME/rust/usr/lib/x86_64-linux-gnu${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
    unset RUSTUP_TOOLCHAIN RUSTC_WRAPPER
    CARGO=("$CROSS_HOME/rust/usr/bin/cargo" build)
    for target in "$@"; do
        describe_target "$target"
        compiler "$target" "${MUSL:+$CROSS_HOME/musl/bin/}${MUSL:-$GNU}-gcc" "$GNU-gcc"
    done
}

# Target, its C compiler, what rustc links with.
compiler() {
    local name
    name=$(env_name "$1")
    export "CC_${1//-/_}=$2" "AR_${1//-/_}=$GNU-ar" "CARGO_TARGET_${name}_LINKER=$3"
    # Nothing unwinds through C. Of zstd's compressors the wire has use for the one of level 1 alone (src/wire/block.rs).
    export "CFLAGS_${1//-/_}=-ffile-prefix-map=${CARGO_HOME:-$HOME/.cargo}=/cargo -fno-unwind-tables -fno-asynchronous-unwind-tables $(
        printf -- '-DZSTD_EXCLUDE_%s_BLOCK_COMPRESSOR ' DFAST GREEDY LAZY LAZY2 BTLAZY2 BTOPT BTULTRA)"
    if [[ -n $EMULATOR ]]; then export "CARGO_TARGET_${name}_RUNNER=$cross_dir/run.sh $1"; fi
}
