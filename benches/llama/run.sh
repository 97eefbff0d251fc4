#!/usr/bin/env bash
# The engine against llama.cpp on the same weights, same machine, side by side: speed, memory, start, quality.
#
#   benches/llama/run.sh                 everything, into $LLAMA_WORK/RESULTS.md (an hour on two cores)
#   benches/llama/run.sh --quick         the small models, in minutes
#   benches/llama/run.sh speed --shapes student --formats q4_0
#   benches/llama/run.sh speed --missing           what was not measured yet: an interrupted run goes on
#   benches/llama/run.sh quality
#   benches/llama/run.sh table [FILE]    the table anew from what was measured
#
# Builds llama.cpp from the sdist of llama-cpp-python, writes random weights as GGUF, imports those into bundles. All of it
# stands in $LLAMA_WORK (default: target/llama) and is made once. $LLAMA_BUILDS names builds that are there already
# ("name=folder with llama-bench and llama-logits", several with a space between), $OUTPOST a release binary with
# examples/logits beside it, $LLAMA_PYTHON a Python with the packages of requirements.txt, cmake among them. Needs Python
# 3.11, a C++ compiler, cargo, Linux.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
caller=$PWD
export LLAMA_VERSION=0.3.36
export LLAMA_WORK=${LLAMA_WORK:-$root/target/llama}
version=$LLAMA_VERSION

mkdir -p "$LLAMA_WORK"
cd "$LLAMA_WORK"
python=${LLAMA_PYTHON:-$LLAMA_WORK/venv/bin/python}
if [[ -n ${LLAMA_PYTHON:-} ]]; then
    :
elif [[ ! -x $python ]] || ! cmp -s "$here/requirements.txt" venv/requirements.txt; then
    python3 -m venv venv
    venv/bin/pip install --quiet -r "$here/requirements.txt"
    cp "$here/requirements.txt" venv/
fi

# cmake comes from there, too.
PATH=$(dirname "$(realpath -s "$python")"):$PATH

# One build: NAME EXTRA_FLAGS
build() {
    local llama=llama_cpp_python-$version/vendor/llama.cpp out=build-$1
    if [[ ! -d $llama ]]; then
        # With isolation pip would build cmake itself from its sources first.
        "$python" -m pip download --quiet --no-deps --no-binary :all: --no-build-isolation "llama-cpp-python==$version" -d .
        tar xf "llama_cpp_python-$version.tar.gz"
        # GCC 12 drops the stores to the tile configuration before it is loaded, and the process dies. Theirs to fix,
        # but a peer that does not run is none.
        sed -i 's|^    _tile_loadconfig(&tc);|    __asm__ volatile("" : : "r"(\&tc) : "memory");\n&|' \
            "$llama/ggml/src/ggml-cpu/amx/mmq.cpp"
    fi
    if [[ ! -x $out/bin/llama-logits ]]; then
        cmake -S "$llama" -B "$out" -DCMAKE_BUILD_TYPE=Release -DBUILD_SHARED_LIBS=OFF -DGGML_NATIVE=ON \
            -DLLAMA_CURL=OFF -DLLAMA_OPENSSL=OFF -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF \
            -DLLAMA_BUILD_SERVER=OFF -DLLAMA_BUILD_MTMD=OFF -DLLAMA_BUILD_UI=OFF \
            -DCMAKE_C_FLAGS="$2" -DCMAKE_CXX_FLAGS="$2" >"$out.log"
        cmake --build "$out" --parallel "${JOBS:-$(nproc)}" --target llama-bench >>"$out.log"
        c++ -O2 -std=c++17 -I"$llama/include" -I"$llama/ggml/include" "$here/logits.cpp" -o "$out/bin/llama-logits" \
            -Wl,--start-group $(find "$out" -name 'libllama.a' -o -name 'libggml*.a') -Wl,--end-group -fopenmp -ldl -pthread
    fi
    LLAMA_BUILDS="${LLAMA_BUILDS:+$LLAMA_BUILDS }$1=$LLAMA_WORK/$out/bin"
}

if [[ -z ${LLAMA_BUILDS:-} ]]; then
    build native ""
    # Where llama.cpp would take matrix tiles, its vector kernels are measured too: either may be the faster.
    if grep -qw amx_int8 /proc/cpuinfo; then
        build vector "-mno-amx-tile -mno-amx-int8 -mno-amx-bf16"
    fi
fi
export LLAMA_BUILDS

if [[ -z ${OUTPOST:-} ]]; then
    cargo build --quiet --release --manifest-path "$root/Cargo.toml" --bin outpost --example logits
    OUTPOST=${CARGO_TARGET_DIR:-$root/target}/release/outpost
fi
export OUTPOST

# Both halves are measured and told, whatever the first one finds.
measure() {
    local failed=0
    "$python" "$here/speed.py" "$@" || failed=1
    "$python" "$here/quality.py" || failed=1
    cargo bench --quiet --manifest-path "$root/Cargo.toml" --bench reuse >reuse.txt || failed=1
    "$python" "$here/results.py"
    return $failed
}

case ${1:-all} in
speed | quality) exec "$python" "$here/$1.py" "${@:2}" ;;
table)
    file=$(cd "$caller" && realpath "${2:-$LLAMA_WORK/RESULTS.md}")
    exec "$python" "$here/results.py" "$file"
    ;;
all) measure ;;
--quick) measure --quick ;;
*) exec sed -n '2,/^set/{/^#/s/^# \?//p}' "$0" ;;
esac
