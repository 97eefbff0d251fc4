#!/usr/bin/env bash
# cross/package-test.sh FILE.deb: installs, starts, upgrades, removes and purges a package in a clean Debian, and looks at
# what is there after each step.
#
# As root. The clean Debian is the folder CLEAN_ROOT, else debootstrap makes one; either way a copy is used and removed.
set -euo pipefail
. "$(dirname "$0")/targets.sh"

PACKAGE=$(realpath "${1:?usage: cross/package-test.sh FILE.deb}")
WORK=$(mktemp -d)
ROOT=$WORK/root
AGENT=
trap '[[ -z $AGENT ]] || kill -KILL "$AGENT" 2>/dev/null; rm -rf "$WORK"' EXIT

main() {
    clean_root
    everything >"$WORK/before"
    step "install"; install_it "$PACKAGE"
    in_root test -x /usr/bin/outpost
    in_root outpost --version
    [[ $(in_root stat -c "%U %a" /var/lib/outpost) == "outpost 700" ]] || fail "the folder of the data is $(in_root stat -c '%U %a' /var/lib/outpost)"
    echo 'device = "kept-by-upgrades"' >"$WORK/config"
    sed '/^\[mqtt\]/a tls = "off-insecure"' "$ROOT/etc/outpost/outpost.toml" >>"$WORK/config"
    cat "$WORK/config" >"$ROOT/etc/outpost/outpost.toml"
    echo "the admin's" >"$ROOT/etc/outpost/tls/ca.crt"
    step "start"; runs
    local epoch
    epoch=$(epoch)
    step "upgrade"; install_it "$(newer)"
    cmp "$WORK/config" "$ROOT/etc/outpost/outpost.toml" || fail "the upgrade changed the configuration"
    [[ $(epoch) == "$epoch" ]] || fail "the upgrade began the spool anew: epoch $(epoch) after $epoch"
    runs
    [[ $(epoch) == "$epoch" ]] || fail "the upgraded agent began the spool anew"
    step "remove"; in_root dpkg --remove outpost
    [[ ! -e $ROOT/usr/bin/outpost ]] || fail "the program is still there"
    [[ -d $ROOT/var/lib/outpost/spool && -e $ROOT/etc/outpost/outpost.toml ]] || fail "removal took spool or configuration"
    step "purge"; in_root dpkg --purge outpost
    everything >"$WORK/after"
    # The admin's file is all that may stay, with the folders that it lies in.
    diff <(printf '%s\n' ./etc/outpost ./etc/outpost/tls ./etc/outpost/tls/ca.crt) <(comm -13 "$WORK/before" "$WORK/after") \
        || fail "the purge left the lines marked > or took those marked <"
    comm -23 "$WORK/before" "$WORK/after" | { ! grep .; } || fail "the purge took what was there before"
    if in_root getent passwd outpost; then fail "the user is still there"; fi
    say "installed, started, upgraded, removed and purged: $(basename "$PACKAGE")"
}

clean_root() {
    if [[ -n ${CLEAN_ROOT:-} ]]; then
        cp -a "$CLEAN_ROOT" "$ROOT"
        return
    fi
    command -v debootstrap >/dev/null || { say "no debootstrap: apt-get install debootstrap"; exit $MISSING; }
    local mirror
    mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -E '/debian/?$' | sort -u | head -n 1)
    debootstrap --variant=minbase bookworm "$ROOT" "${mirror:-http://deb.debian.org/debian}" >"$WORK/log" \
        || { tail -n 5 "$WORK/log" >&2; exit $OUT_OF_REACH; }
}

# Every file, those aside in which dpkg and useradd keep their own books.
everything() {
    (cd "$ROOT" && find . -path ./var/lib/dpkg -prune -o -path ./var/log -prune -o -path ./var/cache -prune -o -print) \
        | grep -vE '^\./etc/(passwd|group|shadow|gshadow|subuid|subgid)-?$|^\./etc/\.pwd\.lock$' | LC_ALL=C sort
}

in_root() { env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive LC_ALL=C chroot "$ROOT" "$@"; }

install_it() {
    cp "$1" "$ROOT/outpost.deb"
    in_root dpkg --force-confold --install /outpost.deb
    rm "$ROOT/outpost.deb"
}

# The same package under a higher version.
newer() {
    dpkg-deb -R "$PACKAGE" "$WORK/newer" && sed -i 's/^Version: .*/&+newer/' "$WORK/newer/DEBIAN/control"
    dpkg-deb --root-owner-group -Znone --build "$WORK/newer" "$WORK/newer.deb" >/dev/null
    echo "$WORK/newer.deb"
}

# Starts the agent as its user, waits until it is ready, and stops it in good order. What an earlier one wrote goes first:
# else this one would be taken for ready, and be stopped before it is a program of its own.
runs() {
    rm -f "$WORK/agent"
    env -i PATH=/usr/sbin:/usr/bin:/bin chroot --userspec=outpost:outpost "$ROOT" outpost run -c /etc/outpost/outpost.toml 2>"$WORK/agent" &
    AGENT=$!
    until grep -qs agent_started "$WORK/agent"; do
        kill -0 "$AGENT" 2>/dev/null || { cat "$WORK/agent" >&2; fail "the agent does not start"; }
        sleep 0.2
    done
    kill "$AGENT"
    wait "$AGENT" || { cat "$WORK/agent" >&2; fail "the agent does not stop in good order"; }
    AGENT=
}

epoch() { in_root outpost spool stat --json --dir /var/lib/outpost/spool | grep -o '"epoch":"[^"]*"' | head -n 1; }

step() { say "-- $1"; }

fail() {
    say "$*"
    exit 1
}

main
