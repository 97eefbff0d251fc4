#!/usr/bin/env bash
# cross/service-test.sh PROGRAM: the services for OpenRC and procd start, reload and stop PROGRAM, which must run on this machine,
# and the scripts of OpenWrt's package do what they are for.
#
# OpenRC is Debian's, in a copy of this machine's root that lies in memory and is gone afterwards; that takes root and
# overlay mounts. OpenWrt's procd can't be had apart from OpenWrt: what the script asks of it is recorded and looked at.
set -euo pipefail
cd "$(dirname "$0")/.."
. cross/targets.sh

PROGRAM=$(realpath "${1:?usage: cross/service-test.sh PROGRAM}")

main() {
    if [[ -z ${ROOT:-} ]]; then
        procd
        SCRATCH=$(mktemp -d)
        trap 'rm -rf "$SCRATCH"' EXIT
        ipk "$SCRATCH"
        (($(id -u) == 0)) || { echo "Mounting takes root: OpenRC is not checked."; return; }
        ROOT=$(mktemp -d)
        export ROOT
        trap 'rm -rf "$SCRATCH"; rmdir "$ROOT"' EXIT
        # Mounts and processes of its own, which end with it.
        unshare --mount --fork --pid --kill-child --mount-proc "$0" "$PROGRAM"
    else
        openrc
    fi
}

# The script runs with words of procd that write down what they are told.
procd() {
    local said wanted
    said=$(asked_of_procd examples/outpost.toml)
    for wanted in "mkdir -p /srv/outpost" "chown outpost:outpost /srv/outpost" "command /usr/bin/outpost run -c /etc/outpost/outpost.toml" \
        "user outpost" "reload_signal HUP"; do
        grep -qx -e "$wanted" <<<"$said" || fail "the script for procd does not say '$wanted', but: $said"
    done
    "$PROGRAM" run --help >/dev/null || fail "the program has no 'run'"
    said=$(asked_of_procd <(echo "mistake = 1")) && fail "a configuration that cannot be used is started: $said"
    [[ $said == "logger "*"outpost check -c"* ]] || fail "of a configuration that cannot be used the script for procd says: $said"
    echo "procd: asked for as it should be"
}

# What it is asked with that configuration.
asked_of_procd() (
    config=$1
    # As OpenWrt's shell runs it.
    set +eu +o pipefail
    /usr/bin/outpost() { "$PROGRAM" "${@/#\/etc\/outpost\/outpost.toml/$config}"; }
    mkdir() { echo "mkdir $*"; }
    chown() { echo "chown $*"; }
    chmod() { echo "chmod $*"; }
    logger() { echo "logger $*"; }
    procd_open_instance() { echo open; }
    procd_set_param() { echo "$*"; }
    procd_close_instance() { echo close; }
    # shellcheck source=/dev/null
    . cross/package/outpost.procd
    start_service
)

# The scripts of OpenWrt's package, in an image below a folder and on a device, where the words of OpenWrt write down what they
# are told. The service is enabled, and started by an upgrade alone.
ipk() {
    local image=$1
    mkdir -p "$image/lib" "$image/etc/init.d"
    printf 'add_group_and_user() { echo "user $*"; }\ndefault_prerm() { echo stopped; }\n' >"$image/lib/functions.sh"
    echo 'echo "${1##*/} $2"' >"$image/etc/rc.common"
    told "user outpost outpost enable outpost: edit" IPKG_INSTROOT="$image"
    told "user outpost outpost enabled outpost start" IPKG_INSTROOT="$image" PKG_UPGRADE=1
    echo 'echo "${1##*/} $2"; [ "$2" != enabled ]' >"$image/etc/rc.common"
    told "user outpost outpost enabled" IPKG_INSTROOT="$image" PKG_UPGRADE=1
    told "" IPKG_INSTROOT="$image/not-openwrt"
    [[ $(IPKG_INSTROOT="$image" sh cross/package/ipk/prerm) == stopped ]] || fail "the package for OpenWrt does not stop the agent before it goes"
    echo "OpenWrt's package: enables, and starts after an upgrade only"
}

# What postinst begins to say, in the environment that follows.
told() {
    local wanted=$1 said
    shift
    said=$(env "$@" sh cross/package/ipk/postinst | tr '\n' ' ') || fail "postinst of the package for OpenWrt fails"
    [[ $said == "$wanted"* && (-n $wanted || -z $said) ]] || fail "postinst of the package for OpenWrt says '$said', where '$wanted' was due"
}

openrc() {
    mount -t tmpfs outpost-test "$ROOT"
    mkdir "$ROOT"/{upper,work,merged,debs}
    mount -t overlay -o "lowerdir=/,upperdir=$ROOT/upper,workdir=$ROOT/work" outpost-test "$ROOT/merged" \
        || { echo "Overlays are not permitted here: OpenRC is not checked."; return; }
    chmod 777 "$ROOT/debs"
    (cd "$ROOT/debs" && apt-get -qq download openrc librc1 libeinfo1) 2>"$ROOT/said" \
        || { echo "Debian's OpenRC is out of reach: not checked. ($(tail -n 1 "$ROOT/said"))"; return; }
    local deb
    # Unpacked, not installed: it would want to be this machine's init.
    for deb in "$ROOT"/debs/*.deb; do dpkg-deb --fsys-tarfile "$deb" | tar -x --keep-directory-symlink -C "$ROOT/merged"; done
    mount -t proc proc "$ROOT/merged/proc"
    mount --bind /dev "$ROOT/merged/dev"
    mount -t tmpfs run "$ROOT/merged/run"
    # As it is after a boot, with nothing else to start.
    mkdir -p "$ROOT"/merged/run/openrc/{daemons,exclusive,failed,hotplugged,inactive,options,scheduled,started,starting,stopping,tmp,wasinactive}
    touch "$ROOT/merged/run/openrc/softlevel"
    rm -rf "$ROOT"/merged/etc/{init.d,runlevels}/*
    printf '#!/sbin/openrc-run\nstart() { :; }\n' | install -m 755 /dev/stdin "$ROOT/merged/etc/init.d/localmount"
    install_it
    in_root rc-service outpost start
    waits "it does not start" grep -q agent_started "$LOG"
    in_root rc-service outpost status
    in_root rc-service outpost reload
    waits "it does not read its configuration anew" grep -q configuration_applied "$LOG"
    in_root rc-service outpost stop
    waits "it does not stop in good order" grep -q agent_stopped "$LOG"
    echo "OpenRC: started, reloaded and stopped"
}

install_it() {
    install -m 755 "$PROGRAM" "$ROOT/merged/usr/bin/outpost"
    install -D -m 755 cross/package/outpost.openrc "$ROOT/merged/etc/init.d/outpost"
    install -d "$ROOT/merged/etc/outpost"
    { echo 'device = "under-openrc"'; sed -e "s|^#data_dir = .*|data_dir = \"/var/lib/outpost\"|" -e '/^\[mqtt\]/a tls = "off-insecure"' examples/outpost.toml; } >"$ROOT/merged/etc/outpost/outpost.toml"
    LOG=$ROOT/merged/var/log/outpost.log
    in_root getent passwd outpost >/dev/null || in_root useradd --system --user-group --no-create-home outpost
}

in_root() { env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C chroot "$ROOT/merged" "$@"; }

# What it is if it does not come, the command that sees it.
waits() {
    local what=$1
    shift
    for _ in $(seq 150); do
        if "$@" 2>/dev/null; then return; fi
        sleep 0.2
    done
    cat "$LOG" >&2 || true
    fail "$what"
}

fail() {
    say "$*"
    exit 1
}

main
