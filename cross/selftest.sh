#!/usr/bin/env bash
# cross/selftest.sh TARGET...: what cross/build.sh has built proves its parts on every processor that is emulated for TARGET.
#
# The program itself is run, with the flags and the link it was built with: `outpost selftest`, as on a device. CROSS_PROFILE
# names another profile than `gateway`, as for cross/build.sh.
set -euo pipefail
cd "$(dirname "$0")/.."
. cross/targets.sh

main() {
    (($#)) || { say "name a target, one or more of: ${TARGETS[*]}"; exit $USAGE; }
    local target cpu program
    for target in "$@"; do
        describe_target "$target" || exit $USAGE
        program=$(program_of "$target")
        [[ -x $program ]] || { say "there is no $program: cross/build.sh $target"; exit $MISSING; }
        for cpu in "${CPUS[@]:-host}"; do
            echo "-- $target on $cpu"
            CROSS_CPU=$cpu proves_itself "$target" "$program"
        done
        says_what_it_is "$target" "$program"
    done
}

# One check starts the program once more, which under an emulator takes the emulator.
proves_itself() {
    cross/run.sh "$1" "$2" selftest --runner "$PWD/cross/run.sh $1"
}

says_what_it_is() {
    local said
    said=$(cross/run.sh "$1" "$2" version)
    [[ $said == *", $1; features: gateway"* ]] || { say "of itself it says: $said"; exit 1; }
    if said=$(cross/run.sh "$1" "$2" aggregate 2>&1); then
        say "it was built without an aggregator and runs one: $said"
        exit 1
    fi
}

main "$@"
