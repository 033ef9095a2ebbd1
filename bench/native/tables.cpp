/* tables.cpp: the core, absl::flat_hash_map and the gather floor, on huge pages, one batch of hits at a time.
 *
 * Usage: tables COUNT. Builds everything, prints the contestants' names on one line, then answers each line
 * "NAME SET" on standard input with nanoseconds per hit. `python -m bench native` asks in rotating order.
 * Every contestant copies the 64 bytes of each row into one warm output; every answer is checked.
 */
#include <sys/mman.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <iostream>
#include <map>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "intarraymap.h"
#include "keys.h"

namespace {

constexpr size_t kHugePage = size_t{1} << 21;
constexpr size_t kPrefetchAhead = 16;

void *huge_allocate(size_t bytes) {
    size_t whole = (bytes + kHugePage - 1) & ~(kHugePage - 1);
    void *block = aligned_alloc(kHugePage, whole);
    if (block == nullptr) abort();
    madvise(block, whole, MADV_HUGEPAGE);
    return block;
}

/* Gives a standard container huge pages. */
template <typename T>
struct HugeAllocator {
    using value_type = T;
    HugeAllocator() = default;
    template <typename U>
    HugeAllocator(const HugeAllocator<U> &) {}
    T *allocate(size_t count) { return static_cast<T *>(huge_allocate(count * sizeof(T))); }
    void deallocate(T *block, size_t) { free(block); }
    template <typename U>
    bool operator==(const HugeAllocator<U> &) const { return true; }
    template <typename U>
    bool operator!=(const HugeAllocator<U> &) const { return false; }
};

using Row = std::array<double, ROW_ITEMS>;
using Hash = absl::container_internal::hash_default_hash<int64_t>;
using Equal = absl::container_internal::hash_default_eq<int64_t>;
using AbslMap = absl::flat_hash_map<int64_t, Row, Hash, Equal, HugeAllocator<std::pair<const int64_t, Row>>>;
using AbslIndex = absl::flat_hash_map<int64_t, uint32_t, Hash, Equal, HugeAllocator<std::pair<const int64_t, uint32_t>>>;

double expected(uint64_t position, int item) { return double(position * ROW_ITEMS + item); }

struct Bench {
    size_t count;
    Row *rows;                       /* the floor's own, and absl_index's */
    Row *out;                        /* warm, shared by all */
    std::vector<int64_t> keys = std::vector<int64_t>(QUERY_COUNT);
    std::vector<uint64_t> positions = std::vector<uint64_t>(QUERY_COUNT);
    iam_map *ours = nullptr;
    AbslMap absl_rows;
    AbslIndex absl_index;
    std::map<std::string, std::function<void()>> contestants;

    explicit Bench(size_t key_count) : count(key_count) {
        rows = static_cast<Row *>(huge_allocate(count * sizeof(Row)));
        out = static_cast<Row *>(huge_allocate(QUERY_COUNT * sizeof(Row)));
        std::vector<int64_t> all(count);
        for (size_t i = 0; i < count; i++) {
            all[i] = splitmix64(i);
            for (int j = 0; j < ROW_ITEMS; j++) rows[i][j] = expected(i, j);
        }
        memset(out, 0, QUERY_COUNT * sizeof(Row));
        iam_options options = {};
        options.row_items = ROW_ITEMS;
        options.kind = IAM_FLOAT64;
        options.index = IAM_INDEX_HASH;
        options.seed = 12345;
        options.huge_pages = IAM_ON;
        if (iam_map_create(&options, &ours) != IAM_OK) abort();
        if (iam_map_update_many(ours, all.data(), count, rows, sizeof(Row), IAM_SET) != IAM_OK) abort();
        absl_rows.reserve(count);
        absl_index.reserve(count);
        for (size_t i = 0; i < count; i++) {
            absl_rows.emplace(all[i], rows[i]);
            absl_index.emplace(all[i], uint32_t(i));
        }
        contestants["floor"] = [this] { gather(); };
        contestants["intarraymap"] = [this] { get_many(); };
        contestants["absl"] = [this] { find_each(); };
        contestants["absl + prefetch"] = [this] { find_ahead(); };
        contestants["absl row numbers + gather"] = [this] { find_numbers(); };
    }

    void gather() {
        for (size_t i = 0; i < QUERY_COUNT; i++) out[i] = rows[positions[i]];
    }

    void get_many() {
        iam_missing missing;
        if (iam_map_get_many(ours, keys.data(), QUERY_COUNT, out, nullptr, 0, nullptr, &missing) != IAM_OK) abort();
    }

    void find_each() {
        for (size_t i = 0; i < QUERY_COUNT; i++) out[i] = absl_rows.find(keys[i])->second;
    }

    void find_ahead() {
        for (size_t i = 0; i < QUERY_COUNT; i++) {
            if (i + kPrefetchAhead < QUERY_COUNT) absl_rows.prefetch(keys[i + kPrefetchAhead]);
            out[i] = absl_rows.find(keys[i])->second;
        }
    }

    void find_numbers() {
        static std::vector<uint32_t> numbers(QUERY_COUNT);
        for (size_t i = 0; i < QUERY_COUNT; i++) numbers[i] = absl_index.find(keys[i])->second;
        for (size_t i = 0; i < QUERY_COUNT; i++) out[i] = rows[numbers[i]];
    }

    double ask(const std::string &name, uint64_t set) {
        for (size_t i = 0; i < QUERY_COUNT; i++) {
            positions[i] = query_position(set, i, count);
            keys[i] = splitmix64(positions[i]);
        }
        double start = now_ns();
        contestants.at(name)();
        double each = (now_ns() - start) / QUERY_COUNT;
        for (size_t i = 0; i < QUERY_COUNT; i++) {
            if (out[i][3] != expected(positions[i], 3)) {
                fprintf(stderr, "%s: wrong answer\n", name.c_str());
                exit(1);
            }
        }
        return each;
    }
};

}  // namespace

int main(int argc, char **argv) {
    if (argc != 2) return fprintf(stderr, "usage: tables COUNT\n"), 2;
    Bench bench(strtoull(argv[1], nullptr, 10));
    std::string names;
    for (const auto &[name, call] : bench.contestants) names += (names.empty() ? "" : "\t") + name;
    std::cout << names << std::endl;
    std::string line;
    while (std::getline(std::cin, line)) {
        size_t tab = line.find('\t');
        std::cout << bench.ask(line.substr(0, tab), strtoull(line.c_str() + tab + 1, nullptr, 10)) << std::endl;
    }
    return 0;
}
