# shellcheck shell=bash
# Makes cargo build for targets of Outpost. Sourced by the scripts beside it, which then call `use_targets TARGET...`
# and `"${CARGO[@]}"`, which is `cargo rustc` for one of them.
#
# Two ways, the first that works:
#   rustup   rustup has std for the targets, or can fetch it; zig links (cargo-zigbuild), or Debian's cross compilers do
#   debian   cross/toolchain.sh makes a toolchain out of Debian packages; for machines that reach package registries only
# CROSS_WAY=rustup or CROSS_WAY=debian chooses.

cross_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=targets.sh
. "$cross_dir/targets.sh"

CROSS_HOME=${OUTPOST_CROSS:-${XDG_CACHE_HOME:-$HOME/.cache}/outpost-cross}
# How long rustup may try before the other way is taken, and how long what it said then is believed.
RUSTUP_SECONDS_MAX=300 RUSTUP_SAID_MINUTES=60

# Sets CARGO, an array, and exports what cargo, cc and rustc need.
use_targets() {
    local target
    for target in "$@"; do
        describe_target "$target" || exit $USAGE
        # std 1.96 does not compile with glibc's 64-bit time (RUST_LIBC_UNSTABLE_GNU_TIME_BITS=64): its own `stat` wants 32.
        if [[ $target == armv7-*-gnueabihf ]]; then
            say "a program for $target reads dates after 2038 wrongly; one for armv7-unknown-linux-musleabihf by CROSS_WAY=debian does not"
        fi
    done
    case ${CROSS_WAY:-} in
    rustup)
        linkable "$@" || { say "rustup alone will not do: $WHY_NOT; or CROSS_WAY=debian"; exit $MISSING; }
        rustup_has "$@" || { say "not by rustup: $WHY_NOT; or CROSS_WAY=debian"; exit $OUT_OF_REACH; }
        ;;
    debian) ;;
    "")
        if linkable "$@" && rustup_has "$@"; then
            CROSS_WAY=rustup
        else
            say "not by rustup: $WHY_NOT"
            CROSS_WAY=debian
        fi
        ;;
    *) say "CROSS_WAY is '$CROSS_WAY' and must be rustup or debian"; exit $USAGE ;;
    esac
    "use_$CROSS_WAY" "$@"
    # As cross/toolchain.sh builds std: dates beyond 2038 on armv7 with musl.
    export RUST_LIBC_UNSTABLE_MUSL_V1_2_3=1 CARGO_INCREMENTAL=0
    # Builds of two compilers in one folder would build everything anew in turn.
    CARGO_TARGET_DIR=$(realpath -m "${CARGO_TARGET_DIR:-$(dirname "$cross_dir")/target/cross}")
    export CARGO_TARGET_DIR
}

# Whether something here can link what rustup's std is good for; else WHY_NOT.
linkable() {
    local target
    command -v cc >/dev/null || { WHY_NOT="no cc, which links what runs here while cargo builds: apt-get install gcc libc6-dev"; return 1; }
    if has_zig; then return; fi
    for target in "$@"; do
        describe_target "$target"
        [[ -z $MUSL || $DEB == amd64 ]] && command -v "$GNU-gcc" >/dev/null || {
            WHY_NOT="nothing here links $target: cargo install cargo-zigbuild --locked && pip install ziglang"
            return 1
        }
    done
}

# cargo-zigbuild takes zig itself or the one that pip installs, and finds out late that there is neither.
has_zig() {
    command -v cargo-zigbuild >/dev/null && { command -v zig || python3 -c 'import ziglang'; } >/dev/null 2>&1
}

# Whether rustup has std for the targets, or fetches it; else WHY_NOT.
rustup_has() {
    local installed target answer
    command -v rustup >/dev/null || { WHY_NOT="it is not installed"; return 1; }
    installed=$(rustup target list --installed 2>/dev/null)
    for target in "$@"; do
        if grep -qx "$target" <<<"$installed"; then continue; fi
        answer=$CROSS_HOME/rustup-said/$target
        # It takes minutes to find out that there is no way, and an hour later there may be one.
        if [[ -n ${CROSS_WAY:-} || -z $(find "$answer" -mmin -$RUSTUP_SAID_MINUTES 2>/dev/null) ]]; then
            say "rustup target add $target"
            mkdir -p "${answer%/*}"
            if RUSTUP_MAX_RETRIES=1 timeout $RUSTUP_SECONDS_MAX rustup target add "$target" >"$answer.new" 2>&1; then
                rm -f "$answer" "$answer.new"
                continue
            fi
            mv "$answer.new" "$answer"
        fi
        WHY_NOT="it could not fetch std for $target at $(date -r "$answer" +%H:%M): $(
            grep -m 1 -i error "$answer" || echo "no answer within $RUSTUP_SECONDS_MAX s"). CROSS_WAY=rustup has it try again"
        return 1
    done
}

use_rustup() {
    local target
    CARGO=(cargo rustc)
    if has_zig; then CARGO=(cargo-zigbuild rustc); fi
    for target in "$@"; do
        describe_target "$target"
        if [[ ${CARGO[0]} == cargo ]]; then compiler "$target" "$GNU-gcc" "$GNU-gcc"; fi
        c_flags "$target"
        if [[ $target == armv7-*-musleabihf ]]; then
            say "the std that rustup has for $target reads dates after 2038 wrongly; CROSS_WAY=debian builds one that does not"
        fi
    done
}

use_debian() {
    local target
    "$cross_dir/toolchain.sh" "$@" || exit $?
    debian_rust
    unset RUSTUP_TOOLCHAIN RUSTC_WRAPPER
    CARGO=("$CROSS_HOME/rust/usr/bin/cargo" rustc)
    for target in "$@"; do
        describe_target "$target"
        compiler "$target" "${MUSL:+$CROSS_HOME/musl/bin/}${MUSL:-$GNU}-gcc" "$GNU-gcc"
        c_flags "$target"
    done
}

debian_rust() {
    export PATH=$CROSS_HOME/rust/usr/bin:$PATH RUSTC=$CROSS_HOME/rust/usr/bin/rustc
    export LD_LIBRARY_PATH=$CROSS_HOME/rust/usr/lib/x86_64-linux-gnu${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
}

# A cargo to ask, where nothing is built: the one there is, else that of the Debian way.
some_cargo() {
    if command -v cargo >/dev/null; then return; fi
    [[ -x $CROSS_HOME/rust/usr/bin/cargo ]] || { say "no cargo: install rustup, or build with CROSS_WAY=debian cross/build.sh, which brings one"; exit $MISSING; }
    debian_rust
}

# Target, its C compiler, what rustc links with.
compiler() {
    local name
    name=$(env_name "$1")
    export "CC_${1//-/_}=$2" "AR_${1//-/_}=$GNU-ar" "CARGO_TARGET_${name}_LINKER=$3"
    if [[ -n $EMULATOR ]]; then export "CARGO_TARGET_${name}_RUNNER=$cross_dir/run.sh $1"; fi
}

# What every C compiler is told. Nothing unwinds through C. Of zstd's compressors the wire has use for the one of level 1
# alone (src/wire/block.rs).
c_flags() {
    export "CFLAGS_${1//-/_}=-ffile-prefix-map=${CARGO_HOME:-$HOME/.cargo}=/cargo -fno-unwind-tables -fno-asynchronous-unwind-tables $(
        printf -- '-DZSTD_EXCLUDE_%s_BLOCK_COMPRESSOR ' DFAST GREEDY LAZY LAZY2 BTLAZY2 BTOPT BTULTRA)"
}
