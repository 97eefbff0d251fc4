#!/usr/bin/env bash
# cross/size.sh [--accept] [TARGET...]: holds the programs that cross/build.sh has built to the sizes in cross/size.lock.
#
# A program may outgrow its line by GROWTH_PERCENT_MAX, for what another compiler makes of the same source. Beyond, whoever
# added the weight says so: `cross/size.sh --accept TARGET` writes the new size, which goes into the same commit.
# CROSS_PROFILE names another profile than `gateway`, as for cross/build.sh; each has lines of its own. What weighs how
# much: cross/SIZE.md.
set -euo pipefail
cd "$(dirname "$0")/.."
. cross/targets.sh

LOCK=cross/size.lock
GROWTH_PERCENT_MAX=2

main() {
    local accept= target grown=0
    if [[ ${1:-} == --accept ]]; then accept=yes; shift; fi
    (($#)) || { say "name a target, one or more of: ${TARGETS[*]}"; exit $USAGE; }
    for target in "$@"; do
        describe_target "$target" || exit $USAGE
        if [[ -n $accept ]]; then write_size "$target"; else weigh "$target" || grown=1; fi
    done
    return $grown
}

size_of() {
    local program
    program=$(program_of "$1")
    [[ -f $program ]] || { say "there is no $program: cross/build.sh $1"; exit $MISSING; }
    stat -c %s "$program"
}

weigh() {
    local target=$1 size locked
    size=$(size_of "$target") || exit
    locked=$(awk -v t="$target" -v p="$PROFILE" '$1 == t && $2 == p {print $3}' $LOCK)
    if [[ -z $locked ]]; then
        say "$LOCK has no line for $target, profile $PROFILE: cross/size.sh --accept $target, and commit it"
        return 1
    fi
    echo "$target, profile $PROFILE: $size bytes; $LOCK says $locked"
    if ((size * 100 > locked * (100 + GROWTH_PERCENT_MAX))); then
        say "the program has grown by $((size - locked)) bytes, more than $GROWTH_PERCENT_MAX %. Find out why (cross/SIZE.md says how).
    If it is worth that: ${CROSS_PROFILE:+CROSS_PROFILE=$PROFILE }cross/size.sh --accept $target, and say in the commit what for"
        return 1
    fi
}

write_size() {
    local target=$1 size
    size=$(size_of "$target") || exit
    {
        grep '^#' $LOCK
        { awk -v t="$target" -v p="$PROFILE" '!/^#/ && !($1 == t && $2 == p)' $LOCK; echo "$target $PROFILE $size"; } | sort
    } >$LOCK.new
    mv $LOCK.new $LOCK
    echo "$LOCK: $target, profile $PROFILE, $size bytes"
}

main "$@"
