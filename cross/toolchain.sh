#!/usr/bin/env bash
# A Rust toolchain for the targets of Outpost out of Debian packages and crates alone, where rustup's own are out of
# reach. `cross/build.sh` calls it; by hand: `cross/toolchain.sh TARGET...`, or `cross/toolchain.sh --lock`.
#
# Debian's rustc, cargo and the source of std are unpacked into one folder, and std is built for each target. Nothing of
# the machine is changed and root is not needed. What is downloaded must have the checksum that toolchain.lock names;
# apt has checked its signature before. Every part is made aside and moved into place when it is whole, so that what an
# interrupted run leaves is never taken for a toolchain: run it again, and it goes on with the part that is missing.
#
# The folder: $OUTPOST_CROSS, else outpost-cross in the user's cache. It takes 2 GB, and 1 to 2 minutes per target.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/targets.sh"

HOME_DIR=${OUTPOST_CROSS:-${XDG_CACHE_HOME:-$HOME/.cache}/outpost-cross}
# CROSS_LOCK: another list than the committed one, for a run that must go on with what Debian has today.
LOCK=${CROSS_LOCK:-$here/toolchain.lock}
KEYRING=/usr/share/keyrings/debian-archive-keyring.gpg
FREE_MIB_MIN=3000

# Package, architecture, suite. Libraries that rustc and cargo need and a small Debian may lack are among them.
PACKAGES=(
    "rustc-web amd64 bookworm-security"
    "cargo-web amd64 bookworm-security"
    "libstd-rust-web-1.96 amd64 bookworm-security"
    "libstd-rust-web-dev amd64 bookworm-security"
    "rust-web-src all bookworm-security"
    "libllvm22 amd64 bookworm-security"
    "libgit2-1.5 amd64 bookworm"
    "libhttp-parser2.9 amd64 bookworm"
    "libmbedcrypto7 amd64 bookworm"
    "libmbedtls14 amd64 bookworm"
    "libmbedx509-1 amd64 bookworm"
    "libz3-4 amd64 bookworm"
    "musl-dev amd64 bookworm"
    "musl-dev arm64 bookworm"
    "musl-dev armhf bookworm"
    "qemu-user amd64 bookworm-backports"
)

main() {
    STEP=
    trap 'explain $?' EXIT
    if [[ ${1:-} == --lock ]]; then able; else able "$@"; fi
    STEP="making $HOME_DIR"
    mkdir -p "$HOME_DIR"
    # One at a time: a second one waits and finds all done.
    exec 9>"$HOME_DIR/lock"
    flock 9
    if [[ ${1:-} == --lock ]]; then
        write_lock
        return
    fi
    local target
    rust
    emulators
    # The compiler brings its own machine's.
    for target in "$@"; do [[ $target == x86_64-unknown-linux-gnu ]] || std_for "$target"; done
}

# Whether this machine has what the way takes. Before anything is downloaded, and all that is missing at once.
able() {
    local target tool lacking=() missing=()
    [[ $(uname -m) == x86_64 ]] || fail $MISSING "only on x86_64 can Debian's compilers be used; install a rustup toolchain"
    for tool in apt-get dpkg-deb; do
        command -v $tool >/dev/null || fail $MISSING "no $tool: this way needs Debian 12; elsewhere install rustup, and 'cargo install cargo-zigbuild'"
    done
    # What runs while cargo builds is linked by it.
    command -v cc >/dev/null || { lacking+=("this machine"); missing+=(gcc libc6-dev); }
    for target in "$@"; do
        describe_target "$target" || exit $USAGE
        compiles || { lacking+=("$target"); missing+=("$GCC_PACKAGE" "$LIBC_PACKAGE"); }
    done
    [[ -e $KEYRING ]] || fail $MISSING "no $KEYRING, by which Debian's packages are known: apt-get install debian-archive-keyring"
    ((${#missing[@]} == 0)) || fail $MISSING "no C compiler for $(IFS=,; echo "${lacking[*]}"): apt-get install$(printf '%s\n' "${missing[@]}" | sort -u | xargs printf ' %s')"
}

compiles() { command -v "$GNU-gcc" >/dev/null && echo 'int main(void){return 0;}' | "$GNU-gcc" -x c - -o /dev/null 2>/dev/null; }

# The compiler, once.
rust() {
    local stamp=$HOME_DIR/rust/.lock
    if cmp -s "$LOCK" "$stamp" && [[ -x $HOME_DIR/rust/usr/bin/rustc ]]; then return; fi
    STEP="fetching the toolchain"
    room
    fetch
    STEP="unpacking the toolchain"
    local new=$HOME_DIR/rust.new deb
    rm -rf "$new" "$HOME_DIR/rust" "$HOME_DIR/musl" "$HOME_DIR/emulators"
    mkdir "$new"
    for deb in "$HOME_DIR"/debs/*_{amd64,all}.deb; do
        case ${deb##*/} in musl-dev_* | qemu-user_*) continue ;; esac
        dpkg-deb -x "$deb" "$new"
    done
    (rust_env "$new"; "$new/usr/bin/cargo" --version && "$new/usr/bin/rustc" --version) >"$HOME_DIR/log" 2>&1 \
        || fail $MISSING "the toolchain does not start here: $(tail -n 1 "$HOME_DIR/log"). Install that library with apt-get"
    cp "$LOCK" "$new/.lock"
    mv "$new" "$HOME_DIR/rust"
    say "unpacked $(tail -n 1 "$HOME_DIR/log")"
}

# Emulators that show a program the processor that is emulated; those before version 8.2 show it this machine's.
emulators() {
    [[ ! -d $HOME_DIR/emulators ]] || return 0
    STEP="fetching the emulators"
    fetch
    STEP="unpacking the emulators"
    local new=$HOME_DIR/emulators.new
    rm -rf "$new"
    mkdir "$new"
    dpkg-deb --fsys-tarfile "$HOME_DIR"/debs/qemu-user_*.deb \
        | tar -x -C "$new" --strip-components=3 ./usr/bin/qemu-aarch64 ./usr/bin/qemu-arm
    mv "$new" "$HOME_DIR/emulators"
}

std_for() {
    local target=$1
    describe_target "$target"
    local lib=$HOME_DIR/rust/usr/lib/rustlib/$target
    if [[ $(cat "$lib/.whole" 2>/dev/null) == "$(recipe)" ]]; then return; fi
    room
    say "building std for $target, about a minute and a half"
    local new=$HOME_DIR/std.new
    rm -rf "$new"
    mkdir -p "$new/lib"
    if [[ -n $MUSL ]]; then
        STEP="fetching musl for $target"
        fetch
        STEP="preparing musl for $target"
        musl_for "$new/lib/self-contained"
    fi
    STEP="building std for $target"
    # An interrupted run's may be of another recipe, whose libraries would be taken along with these.
    rm -rf "$HOME_DIR/std-build"
    build_std "$target" "$HOME_DIR/std-build"
    cp "$HOME_DIR/std-build/$target"/release/deps/lib*.rlib "$new/lib/"
    rm -f "$new"/lib/libstd_for_target-*
    rm -rf "$HOME_DIR/std-build"
    recipe >"$new/.whole"
    rm -rf "$lib"
    mv "$new" "$lib"
}

# What std is made by: another one makes it anew.
recipe() { { echo "${CODEGEN[*]}"; cat "$here"/{toolchain.sh,unwind.c,std/Cargo.toml,std/Cargo.lock}; } | sha256sum; }

# A stock std reads dates on armv7 with musl through 32 bits, and so ends in 2038: the variable makes it 64. The program
# must be built with it too, which build.sh does. It cannot print backtraces: a program without names would print addresses.
build_std() {
    local target=$1 out=$2 rust=$HOME_DIR/rust/usr
    (
        rust_env "$HOME_DIR/rust"
        cd "$here/std"
        export CARGO_TARGET_DIR=$out CARGO_INCREMENTAL=0 RUSTC=$rust/bin/rustc RUSTC_BOOTSTRAP=1 RUST_LIBC_UNSTABLE_MUSL_V1_2_3=1
        unset CARGO_BUILD_TARGET RUSTC_WRAPPER CARGO_ENCODED_RUSTFLAGS
        export RUSTFLAGS="-Cembed-bitcode=yes -Cforce-unwind-tables=yes --remap-path-prefix=$HOME_DIR=/cross --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=/cargo ${CODEGEN[*]}"
        parts=("-Zbuild-std=std,panic_abort,panic_unwind,proc_macro,test" "-Zbuild-std-features=panic-unwind,optimize_for_size" --target "$target")
        # First, as cargo ends with the same code whatever is wrong, and aloud: where no answer comes it tries 15 times.
        CARGO_HTTP_TIMEOUT=${CARGO_HTTP_TIMEOUT:-10} "$rust/bin/cargo" fetch "${parts[@]}" || fail $OUT_OF_REACH \
            "the crates that std is made of are out of reach, see above. Run it again when the network is back; what has come is kept"
        "$rust/bin/cargo" build --release --quiet "${parts[@]}"
    )
}

# A C compiler for musl out of the one for glibc, and what rustc links a static program with.
musl_for() {
    local objects=$1 object root=$HOME_DIR/musl/$DEB
    mkdir -p "$objects" "$HOME_DIR/musl/bin"
    dpkg-deb -x "$HOME_DIR"/debs/musl-dev_*_"$DEB".deb "$root"
    sed "s#/usr/#$root/usr/#g" "$root/usr/lib/$MUSL/musl-gcc.specs" >"$root/specs"
    printf '#!/bin/sh\nexec %s-gcc "$@" -specs %s/specs\n' "$GNU" "$root" >"$HOME_DIR/musl/bin/$MUSL-gcc"
    chmod 755 "$HOME_DIR/musl/bin/$MUSL-gcc"
    cp "$root/usr/lib/$MUSL"/{crt1.o,Scrt1.o,rcrt1.o,crti.o,crtn.o,libc.a} "$objects/"
    for object in crtbegin.o crtbeginS.o crtend.o crtendS.o; do
        cp "$("$GNU-gcc" -print-file-name=$object)" "$objects/"
    done
    "$HOME_DIR/musl/bin/$MUSL-gcc" -O2 -fPIC -ffunction-sections -c "$here/unwind.c" -o "$objects/unwind.o"
    "$GNU-ar" -M <<MRI
create $objects/libunwind.a
addlib $("$GNU-gcc" -print-file-name=libgcc_eh.a)
addlib $("$GNU-gcc" -print-libgcc-file-name)
addmod $objects/unwind.o
save
end
MRI
    rm "$objects/unwind.o"
}

rust_env() {
    export LD_LIBRARY_PATH=$1/usr/lib/x86_64-linux-gnu PATH=$1/usr/bin:$PATH
}

# All packages of the lock file into debs/, each with its checksum or not at all.
fetch() {
    [[ -s $LOCK ]] || fail $STALE "$LOCK is missing: git checkout -- cross, or cross/toolchain.sh --lock"
    mkdir -p "$HOME_DIR/debs"
    local sum package version arch suite wanted=() files=()
    while read -r sum package version arch suite; do
        files+=("$(file_of "$package" "$version" "$arch")")
        if ! held "$sum" "$HOME_DIR/debs/${files[-1]}"; then wanted+=("$package:$arch=$version"); fi
    done < <(grep -v '^#' "$LOCK")
    keep_only "${files[@]}"
    ((${#wanted[@]})) || return 0
    say "downloading ${#wanted[@]} packages"
    indexes
    known "${wanted[@]}"
    (cd "$HOME_DIR/debs" && apt apt-get -qq download "${wanted[@]/:all=/=}") >"$HOME_DIR/log" 2>&1 \
        || fail $OUT_OF_REACH "a download broke off: $(tail -n 1 "$HOME_DIR/log"). Run it again when the network is back; what has come is kept"
    while read -r sum package version arch suite; do
        held "$sum" "$HOME_DIR/debs/$(file_of "$package" "$version" "$arch")" \
            || fail $STALE "$package $version has another checksum than toolchain.lock names, and was removed: run it again, and if that
    changes nothing compare with the package's page at Debian"
    done < <(grep -v '^#' "$LOCK")
}

# Whether that file is there with that checksum. One with another is removed.
held() {
    [[ -e $2 ]] || return 1
    if [[ $(sha256sum "$2" | cut -d' ' -f1) == "$1" ]]; then return; fi
    rm "$2"
    return 1
}

# As apt names what it downloads.
file_of() { echo "$1_${2/:/%3a}_$3.deb"; }

keep_only() {
    local deb
    for deb in "$HOME_DIR"/debs/*.deb; do
        case " $* " in *" ${deb##*/} "*) ;; *) rm -f "$deb" ;; esac
    done
}

# Every package must still be what the index offers; Debian removes what it has replaced.
known() {
    local said
    said=$(apt apt-get -qq --print-uris download "${@/:all=/=}" 2>&1) || fail $STALE \
        "Debian no longer has what cross/toolchain.lock names ($(grep -m 1 '^E:' <<<"$said")). Take its present packages with: cross/toolchain.sh --lock
    then look at 'git diff cross/toolchain.lock', build, and commit it"
}

write_lock() {
    STEP="reading what Debian has now"
    indexes
    local entry package arch suite version sum lines=()
    for entry in "${PACKAGES[@]}"; do
        read -r package arch suite <<<"$entry"
        version=$(apt apt-cache madison "${package}:${arch/all/amd64}" | awk -F' *[|] *' -v s="$suite/" '$3 ~ " " s {print $2; exit}')
        [[ -n $version ]] || fail $STALE "Debian's $suite has no $package for $arch: give its new name in PACKAGES of cross/toolchain.sh"
        sum=$(apt apt-cache show "${package}:${arch/all/amd64}=$version" | awk '/^SHA256:/ {print $2; exit}')
        lines+=("$sum $package $version $arch $suite")
    done
    {
        echo "# What cross/toolchain.sh downloads: sha256, package, version, architecture, suite. Written by its --lock."
        printf '%s\n' "${lines[@]}"
    } >"$LOCK.new"
    mv "$LOCK.new" "$LOCK"
    say "wrote $LOCK"
}

# The index of the packages, in a state of our own: the machine's may be old, and root is not needed.
indexes() {
    local state=$HOME_DIR/apt mirror
    mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 2>/dev/null | grep -E '/debian/?$' | sort -u | head -n 1)
    mirror=${mirror:-http://deb.debian.org/debian}
    mirror=${mirror%/}
    mkdir -p "$state/state/lists/partial" "$state/cache/archives/partial"
    : >"$state/status"
    {
        for suite in bookworm bookworm-backports; do
            echo "deb [signed-by=$KEYRING arch=amd64,arm64,armhf] $mirror $suite main"
        done
        echo "deb [signed-by=$KEYRING arch=amd64] $mirror-security bookworm-security main"
    } >"$state/sources.list"
    cat >"$state/conf" <<CONF
Dir::State "$state/state";
Dir::State::status "$state/status";
Dir::Cache "$state/cache";
Dir::Etc::sourcelist "$state/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
APT::Architecture "amd64";
APT::Architectures { "amd64"; "arm64"; "armhf"; };
APT::Sandbox::User "";
Acquire::Languages "none";
Acquire::Retries "2";
Acquire::http::Timeout "30";
APT::Update::Error-Mode "any";
CONF
    apt apt-get -qq update >"$HOME_DIR/log" 2>&1 \
        || fail $OUT_OF_REACH "Debian's package index is out of reach: $(grep -m 1 '^[EW]:' "$HOME_DIR/log"). Look at the network and at /etc/apt"
}

# Images of containers often forbid apt its cache, and with the index of three architectures that costs minutes.
apt() {
    local program=$1
    shift
    APT_CONFIG=$HOME_DIR/apt/conf "$program" -o Dir::Cache::pkgcache=pkgcache.bin -o Dir::Cache::srcpkgcache=srcpkgcache.bin "$@"
}

room() { has_room "$HOME_DIR" $FREE_MIB_MIN "make room, or name another folder: OUTPOST_CROSS=/some/where" || { STEP=; exit $MISSING; }; }

fail() {
    local code=$1
    shift
    say "$*"
    STEP=
    exit "$code"
}

# Of the network a subshell has spoken already.
explain() {
    if (($1 && $1 != OUT_OF_REACH)) && [[ -n $STEP ]]; then
        say "stopped while $STEP; nothing half made is used. Run it again to go on from there; if the disk is full (df -h $HOME_DIR), make room first"
    fi
}

main "$@"
