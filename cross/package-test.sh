#!/usr/bin/env bash
# cross/package-test.sh FILE.deb: installs, starts, upgrades, removes and purges a package in a clean Debian, and looks at
# what is there after each step. Its unit is looked at by systemd-analyze, where there is one.
#
# As root. The clean Debian is the folder CLEAN_ROOT, else debootstrap makes one; either way a copy is used and removed.
set -euo pipefail
. "$(dirname "$0")/targets.sh"

PACKAGE=$(realpath "${1:?usage: cross/package-test.sh FILE.deb}")
WORK=$(mktemp -d)
ROOT=$WORK/root
WANTED=$ROOT/etc/systemd/system/multi-user.target.wants/outpost.service
# systemd's measure, from 0 to 100: this and no more.
EXPOSURE_TENTHS_MAX=29
AGENT=
trap '[[ -z $AGENT ]] || kill -KILL "$AGENT" 2>/dev/null; rm -rf "$WORK"' EXIT

main() {
    clean_root
    everything >"$WORK/before"
    step "install"; install_it "$PACKAGE"
    in_root test -x /usr/bin/outpost
    in_root outpost --version
    [[ $(in_root stat -c "%U %a" /var/lib/outpost) == "outpost 700" ]] || fail "the folder of the data is $(in_root stat -c '%U %a' /var/lib/outpost)"
    enabled || fail "installed without a systemd that runs, as images are, it is not enabled"
    unit
    configure
    step "start"; runs
    local epoch
    epoch=$(epoch)
    step "upgrade"; upgrade
    cmp "$WORK/config" "$ROOT/etc/outpost/outpost.toml" || fail "the upgrade changed the configuration"
    [[ $(epoch) == "$epoch" ]] || fail "the upgrade began the spool anew: epoch $(epoch) after $epoch"
    runs
    [[ $(epoch) == "$epoch" ]] || fail "the upgraded agent began the spool anew"
    systemd_stands_in
    step "upgrade to what does not start"; upgrade_in_vain
    step "remove"; in_root dpkg --remove outpost
    [[ ! -e $ROOT/usr/bin/outpost ]] || fail "the program is still there"
    [[ -d $ROOT/var/lib/outpost/spool && -e $ROOT/etc/outpost/outpost.toml ]] || fail "removal took spool or configuration"
    step "install again"; install_it "$PACKAGE"
    enabled || fail "installed again after a removal it is not enabled"
    systemd_leaves
    # As `systemctl disable` does it.
    rm "$WANTED"
    upgrade
    ! enabled || fail "an upgrade enabled what the admin had disabled"
    step "purge"; in_root dpkg --purge outpost
    everything >"$WORK/after"
    # The admin's file is all that may stay, with the folders that it lies in.
    diff <(printf '%s\n' ./etc/outpost ./etc/outpost/tls ./etc/outpost/tls/ca.crt) <(comm -13 "$WORK/before" "$WORK/after") \
        || fail "the purge left the lines marked > or took those marked <"
    comm -23 "$WORK/before" "$WORK/after" | { ! grep .; } || fail "the purge took what was there before"
    if in_root getent passwd outpost; then fail "the user is still there"; fi
    say "installed, started, upgraded, removed and purged: $(basename "$PACKAGE")"
}

# An admin's file, and a configuration by which the agent makes everything that it can make. What a bigger model leaves is
# put there: such a model is not at hand.
configure() {
    echo 'device = "kept-by-upgrades"' >"$WORK/config"
    sed '/^\[mqtt\]/a tls = "off-insecure"' "$ROOT/etc/outpost/outpost.toml" >>"$WORK/config"
    printf '\n[[source]]\nname = "books"\nkind = "logs"\npaths = ["/var/log/dpkg.log"]\n' >>"$WORK/config"
    cat "$WORK/config" >"$ROOT/etc/outpost/outpost.toml"
    echo "the admin's" >"$ROOT/etc/outpost/tls/ca.crt"
    touch "$ROOT"/var/lib/outpost/glm-prefix{,.partial}
}

enabled() { [[ -L $WANTED ]]; }

# What systemd itself says of the unit; that it has no complaint and how much of the machine the service can reach.
unit() {
    command -v systemd-analyze >/dev/null || { say "no systemd-analyze: the unit is not checked"; return; }
    local said
    # systemd looks whether the program is there, and here it is in the clean Debian.
    sed "s|=/usr/bin/outpost |=$ROOT/usr/bin/outpost |" "$ROOT/usr/lib/systemd/system/outpost.service" >"$WORK/outpost.service"
    said=$(systemd-analyze verify "$WORK/outpost.service" 2>&1) || true
    [[ -z $said ]] || fail "systemd says of the unit: $said"
    said=$(systemd-analyze security --offline=true --threshold=$EXPOSURE_TENTHS_MAX "$WORK/outpost.service" 2>&1) \
        || fail "the service can reach more of the machine than it may: $(tail -n 1 <<<"$said"). Which setting adds how much: systemd-analyze security --offline=true cross/package/outpost.service"
    say "$(tail -n 1 <<<"$said")"
}

# What stands in for systemd can start nothing: dpkg must come to its end all the same, and the admin hear of it.
upgrade_in_vain() {
    upgrade >"$WORK/said" 2>&1 || { cat "$WORK/said" >&2; fail "an agent that does not start keeps dpkg from its end"; }
    grep -q "does not run after the upgrade: systemctl status outpost" "$WORK/said" || { cat "$WORK/said" >&2; fail "nobody was told that the agent does not start"; }
    [[ $(in_root dpkg-query -W -f '${Status}' outpost) == "install ok installed" ]] || fail "the package is $(in_root dpkg-query -W -f '${Status}' outpost)"
}

systemd_stands_in() {
    mkdir -p "$ROOT/run/systemd/system"
    printf '#!/bin/sh\ncase $1 in try-restart) exit 1 ;; disable) rm -f "%s" ;; esac\n' "${WANTED#"$ROOT"}" \
        | install -m 755 /dev/stdin "$ROOT/usr/local/bin/systemctl"
}

systemd_leaves() { rm -r "$ROOT/run/systemd" "$ROOT/usr/local/bin/systemctl"; }

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

in_root() { env -i PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive LC_ALL=C chroot "$ROOT" "$@"; }

install_it() {
    cp "$1" "$ROOT/outpost.deb"
    in_root dpkg --force-confold --install /outpost.deb && rm "$ROOT/outpost.deb"
}

# To the same package under a higher version than the last.
upgrade() {
    if [[ ! -d $WORK/newer ]]; then dpkg-deb -R "$PACKAGE" "$WORK/newer"; fi
    sed -i 's/^Version: .*/&+newer/' "$WORK/newer/DEBIAN/control"
    dpkg-deb --root-owner-group -Znone --build "$WORK/newer" "$WORK/newer.deb" >/dev/null
    install_it "$WORK/newer.deb"
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
