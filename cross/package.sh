#!/usr/bin/env bash
# cross/package.sh TARGET [PROGRAM]: packages of a program that cross/build.sh has made, in target/packages.
#
#   cross/build.sh aarch64-unknown-linux-musl && cross/package.sh aarch64-unknown-linux-musl
#
# Debian's .deb, OpenWrt's .ipk, a .tar.gz for everything else, and a bill of materials. The same program of the same commit
# gives the same bytes: names sorted, owner 0, times of the commit. Needs dpkg-deb, tar, gzip and python3.
set -euo pipefail
cd "$(dirname "$0")/.."
. cross/targets.sh

main() {
    local target=${1:-}
    describe_target "$target" || exit $USAGE
    local program=${2:-$(program_of "$target")} tool
    [[ -f $program ]] || { say "there is no $program: cross/build.sh $target"; exit $MISSING; }
    for tool in dpkg-deb tar gzip python3; do
        command -v $tool >/dev/null || { say "no $tool: apt-get install dpkg tar gzip python3"; exit $MISSING; }
    done
    SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}
    export SOURCE_DATE_EPOCH LC_ALL=C
    umask 022
    VERSION=$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml | head -n 1)
    OUT=target/packages STAGE=$(mktemp -d)
    trap 'rm -rf "$STAGE"' EXIT
    mkdir -p "$OUT"
    cross/sbom.py "$target" >"$STAGE/sbom"
    deb "$program"
    ipk "$program"
    archive "$target" "$program"
    cp "$STAGE/sbom" "$OUT/outpost_${VERSION}_$target.cdx.json"
    (cd "$OUT" && sha256sum outpost_"$VERSION"_* >SHA256SUMS)
    say "made $(cd "$OUT" && echo outpost_"$VERSION"_*)"
}

# What every package holds: root, program, folder of the agent's data.
common() {
    install -D -m 755 "$2" "$1/usr/bin/outpost"
    install -d "$1/etc/outpost"
    # The example, with the one key that a package decides.
    sed "s|^#data_dir = .*|data_dir = \"$3\"|" examples/outpost.toml >"$1/etc/outpost/outpost.toml"
    grep -q "^data_dir = \"$3\"" "$1/etc/outpost/outpost.toml" || { say "examples/outpost.toml has no #data_dir"; exit 1; }
}

deb() {
    local root=$STAGE/deb doc=$STAGE/deb/usr/share/doc/outpost script
    common "$root" "$1" /var/lib/outpost
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
    dpkg-deb --root-owner-group -Zxz --build "$root" "$OUT/outpost_${VERSION}_$DEB.deb" >/dev/null
}

# OpenWrt's names of the processors that the targets are built for.
openwrt() {
    case $DEB in
    arm64) echo aarch64_generic ;;
    armhf) echo arm_cortex-a7_neon-vfpv4 ;;
    amd64) echo x86_64 ;;
    esac
}

ipk() {
    [[ -n $MUSL ]] || { say "no .ipk: OpenWrt has musl, and this target is for glibc"; return; }
    local data=$STAGE/ipk/data control=$STAGE/ipk/control
    common "$data" "$1" /srv/outpost
    install -D -m 755 cross/package/outpost.procd "$data/etc/init.d/outpost"
    install -d "$data/lib/upgrade/keep.d" "$control"
    # What an upgrade of the whole system keeps.
    printf '%s\n' /etc/outpost /srv/outpost >"$data/lib/upgrade/keep.d/outpost"
    install -m 755 cross/package/ipk/postinst cross/package/ipk/prerm "$control"
    echo /etc/outpost/outpost.toml >"$control/conffiles"
    cat >"$control/control" <<CONTROL
Package: outpost
Version: $VERSION-1
Architecture: $(openwrt)
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
    packed "$whole" >"$OUT/outpost_${VERSION}_$(openwrt).ipk"
}

archive() {
    local name=outpost-$VERSION-$1 file
    local root=$STAGE/archive/$name
    install -D -m 755 "$2" "$root/outpost"
    for file in README.md LICENSE CHANGELOG.md examples/outpost.toml cross/package/outpost.service \
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
