#!/usr/bin/env bash
# cross/package.sh TARGET [PROGRAM] [--openwrt-arch NAME]: packages of a program that cross/build.sh has made, in
# target/packages/TARGET.
#
#   cross/build.sh aarch64-unknown-linux-musl && cross/package.sh aarch64-unknown-linux-musl
#
# Debian's .deb, OpenWrt's .ipk, a .tar.gz for everything else, and a bill of materials. opkg takes what is of its device's own
# architecture only, which NAME is; on the device /etc/openwrt_release has it as DISTRIB_ARCH. The same program of the same
# commit gives the same bytes: names sorted, owner 0, times of the commit. Needs dpkg-deb, tar, gzip, python3 and cargo.
set -euo pipefail
cd "$(dirname "$0")/.."
. cross/env.sh

main() {
    local target='' program='' tool facts
    OPENWRT_ARCH=
    while (($#)); do
        case $1 in
        -h | --help) sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; echo "Targets: ${TARGETS[*]}"; exit ;;
        --openwrt-arch)
            OPENWRT_ARCH=${2:-}
            [[ -n $OPENWRT_ARCH ]] || { say "--openwrt-arch wants a name, such as arm_cortex-a9_vfpv3-d16"; exit $USAGE; }
            shift
            ;;
        *) if [[ -z $target ]]; then target=$1; else program=$1; fi ;;
        esac
        shift
    done
    describe_target "$target" || exit $USAGE
    : "${program:=$(program_of "$target")}" "${OPENWRT_ARCH:=$(openwrt)}"
    runs_on "$OPENWRT_ARCH"
    [[ -f $program ]] || { say "there is no $program: cross/build.sh $target"; exit $MISSING; }
    for tool in dpkg-deb tar gzip python3; do
        command -v $tool >/dev/null || { say "no $tool: apt-get install dpkg tar gzip python3"; exit $MISSING; }
    done
    some_cargo
    SOURCE_DATE_EPOCH=$(commit_time)
    export SOURCE_DATE_EPOCH LC_ALL=C
    umask 022
    facts=$(facts_of "$program") || exit
    [[ $facts == *", $target; "* ]] || { say "$program is not for $target, but says: $facts. Name its own target, or: cross/build.sh $target"; exit $USAGE; }
    VERSION=$(version_of "$facts") || exit
    # All of it aside, and then in the place of what there was: what an interrupted run leaves is no package.
    OUT=target/packages/$target.new STAGE=$(mktemp -d)
    trap 'rm -rf "$STAGE" "$OUT"' EXIT
    rm -rf "$OUT"
    mkdir -p "$OUT"
    cross/sbom.py "$target" "$(field features "$facts" | tr ' ' ,)" "$(field rustc "$facts")" >"$STAGE/sbom"
    deb "$program"
    ipk "$program"
    archive "$target" "$program"
    cp "$STAGE/sbom" "$OUT/outpost_${VERSION}_$target.cdx.json"
    (cd "$OUT" && sha256sum outpost_* >"$STAGE/sums" && mv "$STAGE/sums" SHA256SUMS)
    rm -rf "${OUT%.new}"
    mv "$OUT" "${OUT%.new}"
    say "made in ${OUT%.new}: $(cd "${OUT%.new}" && echo outpost_*)"
}

# What the program says of itself (src/cli/version.rs): version, commit, target, features, compiler. It is read and not run,
# as it may be for another machine.
facts_of() {
    grep -aom 1 -E 'outpost [^ ]+ \([^ ,]+, [^ ;]+; features: [^;]*; rustc [^ )]+\)' "$1" \
        || { say "$1 is no program of Outpost, or one from before it named its build: cross/build.sh TARGET"; return $USAGE; }
}

# Of the facts the one with that name.
field() { sed -E "s/.*; $1:? ([^;)]*).*/\1/" <<<"$2"; }

# A release is called by its number. What is built in between has the time of its commit and the commit with it, in the way of
# Debian: each above the last, all below the release to come (~) or above the one there was (+).
version_of() {
    local number commit head mark='~'
    read -r _ number commit _ <<<"$1"
    commit=${commit//[(,]/}
    head=$(own_commit)
    if [[ $commit == unknown || -z $head ]]; then
        say "the program or this folder names no commit: the packages are called $number, as a release is"
        echo "$number"
    elif [[ ${commit%-dirty} != "$head" ]]; then
        say "the program is of commit ${commit%-dirty}, and what would be packed with it of $head: cross/build.sh anew, or git checkout ${commit%-dirty}"
        return $USAGE
    elif [[ $commit == "$head" ]] && git tag --points-at HEAD | grep -qx "v$number"; then
        echo "$number"
    else
        if git merge-base --is-ancestor "v$number" HEAD 2>/dev/null; then mark=+; fi
        echo "$number${mark}git$(date -u -d "@$(git log -1 --format=%ct)" +%Y%m%d%H%M%S).${commit:0:7}$([[ $commit != *-dirty ]] || echo .dirty)"
    fi
}

# The commit of this folder as build.rs names it; nothing where there is none, or where another repository has the folder in it.
own_commit() {
    if [[ -z $(git rev-parse --show-prefix 2>&1) ]]; then git rev-parse --short=12 HEAD 2>/dev/null || true; fi
}

# What every package holds: root, program, folder of the agent's data.
common() {
    install -D -m 755 "$2" "$1/usr/bin/outpost"
    install -d "$1/etc/outpost"
    # The example, with the one key that a package decides.
    sed "s|^#data_dir = .*|data_dir = \"$3\"|" examples/outpost.toml >"$1/etc/outpost/outpost.toml"
    grep -q "^data_dir = \"$3\"" "$1/etc/outpost/outpost.toml" || { say "examples/outpost.toml has no line '#data_dir = ...' for a package to set: outpost check --example agent > examples/outpost.toml"; exit 1; }
}

deb() {
    local root=$STAGE/deb doc=$STAGE/deb/usr/share/doc/outpost script
    common "$root" "$1" /var/lib/outpost
    sed -i '/^data_dir = /i # Another folder is to be opened to the service: ReadWritePaths=FOLDER, with `systemctl edit outpost`.' "$root/etc/outpost/outpost.toml"
    install -D -m 644 cross/package/outpost.service "$root/usr/lib/systemd/system/outpost.service"
    install -D -m 644 cross/package/copyright "$doc/copyright"
    install -m 644 "$STAGE/sbom" "$doc/sbom.cdx.json"
    gzip -9n <CHANGELOG.md >"$doc/changelog.gz"
    install -d "$root/DEBIAN"
    for script in postinst prerm postrm; do install -m 755 cross/package/deb/$script "$root/DEBIAN/$script"; done
    echo /etc/outpost/outpost.toml >"$root/DEBIAN/conffiles"
    cat >"$root/DEBIAN/control" <<CONTROL
Package: outpost
Version: $VERSION
Architecture: $DEB
Maintainer: Outpost maintainers <maintainers@outpost.invalid>
Installed-Size: $(du -sk --apparent-size "$root/usr" "$root/etc" | awk '{n += $1} END {print n}')
Depends: passwd$([[ -n $MUSL ]] || echo ", libc6 (>= 2.36), libgcc-s1")
Section: net
Priority: optional
Description: edge inference agent
 Reads sensors, judges and words on the spot what happened, keeps it durably, and syncs over MQTT.
CONTROL
    dpkg-deb --root-owner-group -Zxz --build "$root" "$OUT/outpost_${VERSION}_$DEB${MUSL:+-musl}.deb" >/dev/null
}

# OpenWrt's name of the architecture that most devices for a target have.
openwrt() {
    case $DEB in
    arm64) echo aarch64_generic ;;
    armhf) echo arm_cortex-a7_neon-vfpv4 ;;
    amd64) echo x86_64 ;;
    esac
}

# The program takes any processor of its family, but on 32-bit ARM one with an FPU, which OpenWrt names behind an underscore.
runs_on() {
    case $DEB:$1 in
    arm64:aarch64_* | armhf:arm_cortex-a*_* | amd64:x86_64) ;;
    *)
        say "--openwrt-arch is '$1', where this target's program does not run; it runs on: $(
            case $DEB in
            arm64) echo aarch64_generic aarch64_cortex-a53 aarch64_cortex-a72 and other aarch64_... ;;
            armhf) echo arm_cortex-a7_neon-vfpv4 arm_cortex-a9_vfpv3-d16 and other arm_cortex-a..._... that name an FPU ;;
            amd64) echo x86_64 ;;
            esac)"
        exit $USAGE
        ;;
    esac
}

ipk() {
    [[ -n $MUSL ]] || { say "no .ipk: OpenWrt has musl, and this target is for glibc"; return; }
    local data=$STAGE/ipk/data control=$STAGE/ipk/control
    common "$data" "$1" /srv/outpost
    install -D -m 755 cross/package/outpost.procd "$data/etc/init.d/outpost"
    install -d "$data/lib/upgrade/keep.d" "$control"
    # What an upgrade of the whole system keeps, packed in memory meanwhile: the spool is too large for that.
    echo /etc/outpost >"$data/lib/upgrade/keep.d/outpost"
    install -m 755 cross/package/ipk/postinst cross/package/ipk/prerm "$control"
    echo /etc/outpost/outpost.toml >"$control/conffiles"
    cat >"$control/control" <<CONTROL
Package: outpost
Version: $VERSION-1
Architecture: $OPENWRT_ARCH
Maintainer: Outpost maintainers <maintainers@outpost.invalid>
Installed-Size: $(du -sb "$data" | cut -f1)
Require-User: outpost:outpost
Section: net
Description: Edge inference agent
CONTROL
    local whole=$STAGE/ipk/whole
    mkdir "$whole"
    echo 2.0 >"$whole/debian-binary"
    packed "$data" >"$whole/data.tar.gz"
    packed "$control" >"$whole/control.tar.gz"
    packed "$whole" >"$OUT/outpost_${VERSION}_$OPENWRT_ARCH.ipk"
}

archive() {
    local name=outpost-$VERSION-$1 file
    local root=$STAGE/archive/$name
    install -D -m 755 "$2" "$root/outpost"
    for file in README.md LICENSE CHANGELOG.md cross/package/INSTALL.md examples/outpost.toml cross/package/outpost.service \
        cross/package/outpost.openrc cross/package/outpost.procd; do
        install -m 644 "$file" "$root/"
    done
    install -m 644 "$STAGE/sbom" "$root/sbom.cdx.json"
    packed "$STAGE/archive" >"$OUT/outpost_${VERSION}_$1.tar.gz"
}

# A folder as .tar.gz that depends on its content alone.
packed() {
    tar -C "$1" --sort=name --format=gnu --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" -c . | gzip -9n
}

main "$@"
