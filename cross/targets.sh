# shellcheck shell=bash disable=SC2034
# The targets of Outpost, and what each is called by whom. Sourced by the scripts beside it.

TARGETS=(
    aarch64-unknown-linux-musl
    armv7-unknown-linux-musleabihf
    x86_64-unknown-linux-musl
    aarch64-unknown-linux-gnu
    armv7-unknown-linux-gnueabihf
    x86_64-unknown-linux-gnu
)

# Sets GNU (prefix of Debian's cross compiler), GCC_PACKAGE, LIBC_PACKAGE, DEB (Debian's architecture), MUSL (musl's
# triple, empty for glibc), EMULATOR (empty: runs here), CPUS (processors that are emulated, plainest first) and CODEGEN (what
# rustc is told of the machine's code).
describe_target() {
    MUSL='' EMULATOR='' CPUS=() CODEGEN=()
    case $1 in
    aarch64-unknown-linux-musl | aarch64-unknown-linux-gnu)
        GNU=aarch64-linux-gnu DEB=arm64 EMULATOR=qemu-aarch64 CPUS=(cortex-a53 cortex-a72 max)
        ;;
    armv7-unknown-linux-musleabihf | armv7-unknown-linux-gnueabihf)
        GNU=arm-linux-gnueabihf DEB=armhf EMULATOR=qemu-arm CPUS=(cortex-a7)
        ;;
    x86_64-unknown-linux-musl | x86_64-unknown-linux-gnu)
        GNU=x86_64-linux-gnu DEB=amd64
        ;;
    *)
        echo "cross: there is no target '$1'. It must be one of: ${TARGETS[*]}" >&2
        return 2
        ;;
    esac
    case $1 in
    aarch64-*-musl) MUSL=aarch64-linux-musl ;;
    armv7-*-musleabihf) MUSL=arm-linux-musleabihf ;;
    x86_64-*-musl) MUSL=x86_64-linux-musl ;;
    esac
    # Of these rustc links no static program that can be moved, so none of its code need be able to.
    case $1 in
    aarch64-*-musl | armv7-*-musleabihf) CODEGEN=(-Crelocation-model=static) ;;
    esac
    # LLVM moves what several functions share into one of its own as soon as that saves an instruction, and leaves out of the
    # account that each has an entry in the tables for unwinding, about 30 bytes.
    case $1 in
    aarch64-*) CODEGEN+=(-Cllvm-args=-outliner-benefit-threshold=32) ;;
    esac
    GCC_PACKAGE=gcc-$GNU LIBC_PACKAGE=libc6-dev-$DEB-cross
    if [[ $DEB == amd64 ]]; then GCC_PACKAGE=gcc LIBC_PACKAGE=libc6-dev; fi
}

# How it is built: `gateway` is what is given out (Cargo.toml).
PROFILE=${CROSS_PROFILE:-gateway}

# Where cross/build.sh leaves the program for a target.
program_of() { echo "${CARGO_TARGET_DIR:-target/cross}/$1/$PROFILE/outpost"; }

# The part of cargo's and cc's environment names that stands for a target.
env_name() { tr '[:lower:]-' '[:upper:]_' <<<"$1"; }

# What stands for the present in all that is made of a commit.
commit_time() { echo "${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}"; }

# Whether FOLDER, or where it will be, has so many MiB left. Else says so, with ADVICE.
has_room() {
    local folder=$1 needed=$2 advice=$3 free
    while [[ ! -d $folder ]]; do folder=$(dirname "$folder"); done
    free=$(df --output=avail -m "$folder" | tail -n 1)
    ((free >= needed)) || { say "$1 has $((free)) MiB left and $needed are needed: $advice"; return 1; }
}

say() { printf 'cross: %s\n' "$*" >&2; }

# Exit codes: what stands in the way of a build.
USAGE=2
# The toolchain is out of reach: no network and nothing cached.
OUT_OF_REACH=3
# Something is missing on this machine; the message names the command.
MISSING=4
# What the registry has now is not what cross/toolchain.lock names.
STALE=5
