/* tables.cpp: the core, absl::flat_hash_map, boost::unordered_flat_map and the gather floor, one batch at a time.
 *
 * Usage: tables COUNT huge|plain. Builds everything, on huge pages or with none at all, prints the contestants' names
 * on one line, then answers each line "NAME hit|miss SET" (tabs between) on standard input with nanoseconds per key.
 * `python -m bench native` asks in rotating order. Every contestant copies the 64 bytes of each row (zeros for a
 * missing key) into one warm output; every answer is checked. absl and boost take part where they are installed.
 */
#include <sys/mman.h>
#include <sys/prctl.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <iostream>
#include <map>
#include <string>
#include <vector>

#ifdef HAVE_ABSL
#include "absl/container/flat_hash_map.h"
#endif
#ifdef HAVE_BOOST
#include <boost/unordered/unordered_flat_map.hpp>
#endif
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
template <typename Value>
using Pairs = HugeAllocator<std::pair<const int64_t, Value>>;
#ifdef HAVE_ABSL
using Hash = absl::container_internal::hash_default_hash<int64_t>;
using Equal = absl::container_internal::hash_default_eq<int64_t>;
using AbslMap = absl::flat_hash_map<int64_t, Row, Hash, Equal, Pairs<Row>>;
using AbslIndex = absl::flat_hash_map<int64_t, uint32_t, Hash, Equal, Pairs<uint32_t>>;
#endif
#ifdef HAVE_BOOST
using BoostMap = boost::unordered_flat_map<int64_t, Row, boost::hash<int64_t>, std::equal_to<int64_t>, Pairs<Row>>;
#endif

const Row kZeros = {};

double expected(uint64_t position, int item) { return double(position * ROW_ITEMS + item); }

struct Bench {
    size_t count;
    Row *rows; /* the floor's own, and absl_index's; a row of zeros behind the last */
    Row *out;  /* warm, shared by all */
    std::vector<int64_t> keys = std::vector<int64_t>(QUERY_COUNT);
    std::vector<uint64_t> positions = std::vector<uint64_t>(QUERY_COUNT); /* count: missing */
    iam_map *ours = nullptr;
#ifdef HAVE_ABSL
    AbslMap absl_rows;
    AbslIndex absl_index;
#endif
#ifdef HAVE_BOOST
    BoostMap boost_rows;
#endif
    std::map<std::string, std::function<void()>> contestants;

    Bench(size_t key_count, bool huge_pages) : count(key_count) {
        rows = static_cast<Row *>(huge_allocate((count + 1) * sizeof(Row)));
        out = static_cast<Row *>(huge_allocate(QUERY_COUNT * sizeof(Row)));
        std::vector<int64_t> all(count);
        for (size_t i = 0; i < count; i++) {
            all[i] = splitmix64(i);
            for (int j = 0; j < ROW_ITEMS; j++) rows[i][j] = expected(i, j);
        }
        rows[count] = kZeros;
        memset(out, 0, QUERY_COUNT * sizeof(Row));
        build_ours(all, huge_pages);
        contestants["floor"] = [this] { gather(); };
        contestants["intarraymap"] = [this] { get_many(); };
        contestants["intarraymap, one at a time"] = [this] { get_each(); };
#ifdef HAVE_ABSL
        absl_rows.reserve(count);
        absl_index.reserve(count);
        for (size_t i = 0; i < count; i++) {
            absl_rows.emplace(all[i], rows[i]);
            absl_index.emplace(all[i], uint32_t(i));
        }
        contestants["absl"] = [this] { find_each(absl_rows); };
        contestants["absl + prefetch"] = [this] { find_ahead(); };
        contestants["absl row numbers + gather"] = [this] { find_numbers(); };
#endif
#ifdef HAVE_BOOST
        boost_rows.reserve(count);
        for (size_t i = 0; i < count; i++) boost_rows.emplace(all[i], rows[i]);
        contestants["boost"] = [this] { find_each(boost_rows); };
#endif
    }

    void build_ours(const std::vector<int64_t> &all, bool huge_pages) {
        iam_options options = {};
        options.row_items = ROW_ITEMS;
        options.kind = IAM_FLOAT64;
        options.index = IAM_INDEX_HASH;
        options.seed = 12345;
        options.huge_pages = huge_pages ? IAM_ON : IAM_OFF;
        if (iam_map_create(&options, &ours) != IAM_OK) abort();
        if (iam_map_update_many(ours, all.data(), count, rows, sizeof(Row), IAM_SET) != IAM_OK) abort();
    }

    void gather() {
        for (size_t i = 0; i < QUERY_COUNT; i++) out[i] = rows[positions[i]];
    }

    void get_many() {
        iam_missing missing;
        if (iam_map_get_many(ours, keys.data(), QUERY_COUNT, out, &kZeros, 0, nullptr, &missing) != IAM_OK) abort();
    }

    void get_each() {
        for (size_t i = 0; i < QUERY_COUNT; i++) {
            const void *row = iam_map_find(ours, keys[i], nullptr);
            out[i] = row != nullptr ? *static_cast<const Row *>(row) : kZeros;
        }
    }

    template <typename Map>
    void find_each(const Map &map) {
        for (size_t i = 0; i < QUERY_COUNT; i++) {
            auto found = map.find(keys[i]);
            out[i] = found != map.end() ? found->second : kZeros;
        }
    }

#ifdef HAVE_ABSL
    void find_ahead() {
        for (size_t i = 0; i < QUERY_COUNT; i++) {
            if (i + kPrefetchAhead < QUERY_COUNT) absl_rows.prefetch(keys[i + kPrefetchAhead]);
            auto found = absl_rows.find(keys[i]);
            out[i] = found != absl_rows.end() ? found->second : kZeros;
        }
    }

    void find_numbers() {
        static std::vector<uint32_t> numbers(QUERY_COUNT);
        for (size_t i = 0; i < QUERY_COUNT; i++) {
            auto found = absl_index.find(keys[i]);
            numbers[i] = found != absl_index.end() ? found->second : uint32_t(count);
        }
        for (size_t i = 0; i < QUERY_COUNT; i++) out[i] = rows[numbers[i]];
    }
#endif

    double ask(const std::string &name, bool hit, uint64_t set) {
        for (size_t i = 0; i < QUERY_COUNT; i++) {
            uint64_t position = query_position(set, i, count);
            positions[i] = hit ? position : count;
            keys[i] = splitmix64(hit ? position : count + position);
        }
        double start = now_ns();
        contestants.at(name)();
        double each = (now_ns() - start) / QUERY_COUNT;
        for (size_t i = 0; i < QUERY_COUNT; i++) {
            if (out[i][3] != (hit ? expected(positions[i], 3) : 0.0)) {
                fprintf(stderr, "%s: wrong answer\n", name.c_str());
                exit(1);
            }
        }
        return each;
    }
};

}  // namespace

int main(int argc, char **argv) {
    if (argc != 3) return fprintf(stderr, "usage: tables COUNT huge|plain\n"), 2;
    bool huge_pages = strcmp(argv[2], "huge") == 0;
    if (!huge_pages && prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0) != 0) perror("PR_SET_THP_DISABLE");
    Bench bench(strtoull(argv[1], nullptr, 10), huge_pages);
    std::string names;
    for (const auto &[name, call] : bench.contestants) names += (names.empty() ? "" : "\t") + name;
    std::cout << names << std::endl;
    std::string line;
    while (std::getline(std::cin, line)) {
        size_t first = line.find('\t'), second = line.find('\t', first + 1);
        bool hit = line.compare(first + 1, second - first - 1, "hit") == 0;
        std::cout << bench.ask(line.substr(0, first), hit, strtoull(line.c_str() + second + 1, nullptr, 10)) << std::endl;
    }
    return 0;
}
