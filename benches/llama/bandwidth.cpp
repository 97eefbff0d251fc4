// GB/s that reading memory gives on this machine: `bandwidth THREADS`, the best of many passes over 512 MiB, four streams a
// thread, as a product over weights reads them.

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <numeric>
#include <thread>
#include <vector>

static uint64_t sum(const uint64_t * begin, size_t words) {
    const size_t part = words / 4;
    uint64_t lanes[32] = {};
    for (size_t i = 0; i < part; i += 8) {
        for (size_t stream = 0; stream < 4; stream++) {
            for (size_t lane = 0; lane < 8; lane++) {
                lanes[stream * 8 + lane] += begin[stream * part + i + lane];
            }
        }
    }
    return std::accumulate(lanes, lanes + 32, uint64_t(0));
}

int main(int argc, char ** argv) {
    const size_t threads = std::max(1, argc > 1 ? atoi(argv[1]) : 1), words = (512u << 20) / 8, share = words / threads / 32 * 32;
    std::vector<uint64_t> memory(words, 1);
    double best = 0;
    uint64_t all = 0;
    for (int pass = 0; pass < 24; pass++) {
        std::vector<uint64_t> sums(threads);
        std::vector<std::thread> team;
        const auto begin = std::chrono::steady_clock::now();
        for (size_t t = 0; t < threads; t++) {
            team.emplace_back([&, t] { sums[t] = sum(memory.data() + t * share, share); });
        }
        for (auto & thread : team) {
            thread.join();
        }
        const std::chrono::duration<double> s = std::chrono::steady_clock::now() - begin;
        best = std::max(best, threads * share * 8 / s.count() / 1e9);
        for (uint64_t s : sums) all += s;
    }
    printf("%.2f\n", best);
    return all == 0;
}
