#!/usr/bin/env bash
# cross/package-test.sh FILE.deb: installs, starts, upgrades, removes and purges a package in a clean Debian, and looks at
# what is there after each step. Its unit is looked at by systemd-analyze, where there is one.
#
# As root. The clean Debian is the folder CLEAN_ROOT, else debootstrap makes one; either way a copy is used and removed. A
# package of another architecture is tried in a Debian of its own kind that is emulated whole, by proot and qemu's static
# programs: neither asks the kernel for anything, while chroot would need its binfmt_misc.
set -euo pipefail
HERE=$(cd "$(dirname "$0")" && pwd)
. "$HERE/targets.sh"

PACKAGE=$(realpath "${1:?usage: cross/package-test.sh FILE.deb}")
ARCH=$(dpkg-deb -f "$PACKAGE" Architecture)
# Empty: it runs here.
EMULATOR=
WORK=$(mktemp -d)
ROOT=$WORK/root
# The package's user passes through it.
chmod 711 "$WORK"
WANTED=$ROOT/etc/systemd/system/multi-user.target.wants/outpost.service
# systemd's measure, from 0 to 100: this and no more.
EXPOSURE_TENTHS_MAX=29
AGENT=
trap '[[ -z $AGENT ]] || kill -KILL "$(agent_itself)" 2>/dev/null; rm -rf "$WORK"' EXIT

main() {
    choose_emulator
    clean_root
    everything >"$WORK/before"
    step "install"; install_it "$PACKAGE"
    [[ -x $ROOT/usr/bin/outpost ]] || fail "no program was installed"
    in_root outpost --version
    [[ $(stat -c "%u:%g %a" "$ROOT/var/lib/outpost") == "$(ids outpost) 700" ]] || fail "the folder of the data is $(stat -c '%u:%g %a' "$ROOT/var/lib/outpost"), and outpost is $(ids outpost)"
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

choose_emulator() {
    [[ $ARCH != "$(dpkg --print-architecture)" ]] || return 0
    local target tool
    for target in "${TARGETS[@]}"; do
        describe_target "$target"
        [[ $DEB != "$ARCH" ]] || break
    done
    [[ $DEB == "$ARCH" && -n $EMULATOR ]] || fail "nothing here runs programs for $ARCH"
    EMULATOR+=-static
    for tool in proot "$EMULATOR" python3; do
        command -v "$tool" >/dev/null || { say "no $tool: apt-get install proot qemu-user-static python3"; exit $MISSING; }
    done
    proot true 2>/dev/null || { say "proot can't trace here, so nothing for $ARCH runs"; exit $OUT_OF_REACH; }
}

clean_root() {
    if [[ -n ${CLEAN_ROOT:-} ]]; then
        cp -a "$CLEAN_ROOT" "$ROOT"
        return
    fi
    command -v debootstrap >/dev/null || { say "no debootstrap: apt-get install debootstrap"; exit $MISSING; }
    local mirror
    mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -E '/debian/?$' | sort -u | head -n 1)
    debootstrap ${EMULATOR:+--foreign} --arch="$ARCH" --variant=minbase bookworm "$ROOT" "${mirror:-http://deb.debian.org/debian}" >"$WORK/log" \
        || { tail -n 5 "$WORK/log" >&2; exit $OUT_OF_REACH; }
    [[ -n $EMULATOR ]] || return 0
    # A link to itself, for the one who is in there.
    rm -f "$ROOT/proc" && mkdir "$ROOT/proc"
    in_root DEBOOTSTRAP_DIR=/debootstrap sh /debootstrap/debootstrap --second-stage >"$WORK/log" \
        || { tail -n 5 "$WORK/log" >&2; fail "no Debian for $ARCH can be made under emulation"; }
}

# Every file, those aside in which dpkg and useradd keep their own books.
everything() {
    (cd "$ROOT" && find . -path ./var/lib/dpkg -prune -o -path ./var/log -prune -o -path ./var/cache -prune -o -print) \
        | grep -vE '^\./etc/(passwd|group|shadow|gshadow|subuid|subgid)-?$|^\./etc/\.pwd\.lock$' | LC_ALL=C sort
}

in_root() {
    enter root
    "${ENTER[@]}" env DEBIAN_FRONTEND=noninteractive "$@"
}

# Sets ENTER to what runs a command in the clean Debian as that user.
enter() {
    ENTER=(env -i PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C)
    if [[ -z $EMULATOR ]]; then
        ENTER+=(chroot --userspec="$1:$1" "$ROOT")
    else
        local user
        user=$(ids "$1")
        # Scripts of a whole Debian run there as root, and some unmount what they think is theirs.
        ENTER+=(unshare --mount --propagation private)
        # proot does not know every call by which a file is asked for.
        ENTER+=("$HERE/old-calls.py")
        ENTER+=(setpriv --reuid="${user%:*}" --regid="${user#*:}" --clear-groups)
        ENTER+=(proot -q "$EMULATOR" -r "$ROOT" -b /proc -w /)
    fi
}

# A user's number and its group's, in the clean Debian. Before there are users there is root.
ids() {
    local ids
    ids=$(awk -F: -v user="$1" '$1 == user { print $3 ":" $4 }' "$ROOT/etc/passwd" 2>/dev/null) || true
    echo "${ids:-0:0}"
}

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
    enter outpost
    "${ENTER[@]}" outpost run -c /etc/outpost/outpost.toml 2>"$WORK/agent" &
    AGENT=$!
    until grep -qs agent_started "$WORK/agent"; do
        kill -0 "$AGENT" 2>/dev/null || { AGENT=; cat "$WORK/agent" >&2; fail "the agent does not start"; }
        sleep 0.2
    done
    kill "$(agent_itself)"
    wait "$AGENT" || { cat "$WORK/agent" >&2; fail "the agent does not stop in good order"; }
    AGENT=
}

# proot passes no signal on.
agent_itself() {
    if [[ -z $EMULATOR ]]; then echo "$AGENT"; else tr -d ' ' <"/proc/$AGENT/task/$AGENT/children"; fi
}

epoch() { in_root outpost spool stat --json --dir /var/lib/outpost/spool | grep -o '"epoch":"[^"]*"' | head -n 1; }

step() { say "-- $1"; }

fail() {
    say "$*"
    exit 1
}

main
