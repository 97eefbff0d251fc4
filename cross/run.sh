#!/usr/bin/env bash
# cross/run.sh TARGET PROGRAM [ARGUMENTS]: runs a program for TARGET on this machine, emulated where it must be.
#
# CROSS_CPU names the processor; without it the plainest of the target. Cargo calls this for tests: env.sh.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/targets.sh"
target=${1:?usage: cross/run.sh TARGET PROGRAM [ARGUMENTS]}
shift
describe_target "$target"
unset LD_LIBRARY_PATH
if [[ -z $EMULATOR ]]; then exec "$@"; fi

emulator=${OUTPOST_CROSS:-${XDG_CACHE_HOME:-$HOME/.cache}/outpost-cross}/emulators/$EMULATOR
# Before 8.2 they show a program this machine's processor instead of the emulated one.
if [[ ! -x $emulator ]]; then
    emulator=$(command -v "$EMULATOR" "$EMULATOR-static" | head -n 1) || true
    [[ -n $emulator ]] || { say "no $EMULATOR: apt-get install qemu-user"; exit $MISSING; }
fi
libraries=()
if [[ -z $MUSL ]]; then libraries=(-L "/usr/$GNU"); fi
exec "$emulator" -cpu "${CROSS_CPU:-${CPUS[0]}}" "${libraries[@]}" "$@"
