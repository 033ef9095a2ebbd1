/* fuzz_ops.c: libFuzzer gives bytes, we read them as the options of a map and a list of operations on it: every
 * function of the front door, with views, blocks and a scan held across them and an allocator that refuses when told
 * to. Beside the map goes a model of it, as plain as can be: a list of rows. After every step map and model are
 * compared.
 *
 * Inputs are short, as the fuzzer likes them: a byte for what to do and a few for keys and counts; long runs of keys
 * are computed. Bytes that are not there are zeros. Preset fuzz builds the fuzzer; replay.c runs what it has found. */
#include "harness.h"
#include "rows.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t byte_count);

enum {
    PLACES = 8192,
    STEPS_MOST = 200,
    BATCH_MOST = 20400,   /* enough for build_index */
    COLLIDING_MOST = 600, /* rows where all hashes are the same: a chain is walked from end to end */
    MAP_ITEMS_MOST = 40000,
    VIEWS_MOST = 12,
    BLOCKS_MOST = 3,
    ITEMS_MOST = 150, /* pages of the direct index have fewer than eight rows then */
};

typedef struct model_row {
    int64_t key;
    uint64_t born;          /* step of its insertion */
    uint64_t scanned;       /* scan that it came in last */
    uint64_t mark;          /* used within one step */
    struct model_row *next; /* in its place */
    int64_t items[];        /* as numbers, whatever the kind */
} model_row;

typedef struct held_view {
    iam_view view;
    int64_t key;
    void *row;
    bool lives;      /* it follows its key; else it must show what it did when the key went */
    int64_t items[]; /* what it showed after the step before */
} held_view;

typedef struct held_block {
    iam_rows *rows;
    uint64_t map_number; /* of which map: a copy or an opened image is another one */
} held_block;

typedef struct world {
    const uint8_t *at, *end; /* what is left of the input */
    iam_map *map;
    iam_options options;
    failing allocator;
    bool can_fail; /* the map takes its memory from `allocator` */
    bool is_armed; /* it may refuse in this step */
    int64_t refused_before;
    size_t row_items, item_bytes, row_bytes;
    model_row *places[PLACES];
    uint64_t count;
    uint64_t step, mark, map_number, image_number;
    held_view *views[VIEWS_MOST];
    held_block blocks[BLOCKS_MOST];
    int view_count, block_count;
    bool scans;
    uint64_t scan, scan_began, scan_position, scan_epoch;
    int64_t keys[BATCH_MOST];
    size_t key_count;
    bool changed; /* a key came or went in this step */
} world;

/* ---- The input --------------------------------------------------------------------------------------------------- */

static uint8_t take(world *w)
{
    return w->at < w->end ? *w->at++ : 0;
}

static uint64_t take_long(world *w)
{
    uint64_t number = 0;
    for (int i = 0; i < 8; i++)
        number |= (uint64_t)take(w) << (8 * i);
    return number;
}

/* Small ones, of either sign. */
static int64_t take_number(world *w)
{
    return (int8_t)take(w);
}

/* ---- Items ------------------------------------------------------------------------------------------------------- */

static int64_t item_read(iam_kind kind, const void *row, size_t item)
{
    const char *at = (const char *)row + item * iam_kind_bytes(kind);
    int64_t whole;
    int32_t half;
    double real;
    switch (kind) {
    case IAM_INT64:
        memcpy(&whole, at, sizeof whole);
        return whole;
    case IAM_INT32:
        memcpy(&half, at, sizeof half);
        return half;
    case IAM_UINT8:
        return (uint8_t)*at;
    default:
        memcpy(&real, at, sizeof real);
        return (int64_t)real;
    }
}

static void item_write(iam_kind kind, void *row, size_t item, int64_t number)
{
    char *at = (char *)row + item * iam_kind_bytes(kind);
    int32_t half = (int32_t)(uint32_t)(uint64_t)number;
    uint8_t byte = (uint8_t)number;
    double real = (double)number;
    const void *from = kind == IAM_INT64   ? (const void *)&number
                       : kind == IAM_INT32 ? (const void *)&half
                       : kind == IAM_UINT8 ? (const void *)&byte
                                           : (const void *)&real;
    memcpy(at, from, iam_kind_bytes(kind));
}

static int64_t wrapped(iam_kind kind, uint64_t bits)
{
    if (kind == IAM_INT32)
        return (int32_t)(uint32_t)bits;
    return kind == IAM_UINT8 ? (int64_t)(uint8_t)bits : (int64_t)bits;
}

static int64_t applied(iam_kind kind, iam_op op, int64_t a, int64_t b)
{
    uint64_t left = (uint64_t)a, right = (uint64_t)b;
    switch (op) {
    case IAM_ADD:
        return wrapped(kind, left + right);
    case IAM_SUB:
        return wrapped(kind, left - right);
    case IAM_MUL:
        return wrapped(kind, left * right);
    case IAM_MIN:
        return a < b ? a : b;
    case IAM_MAX:
        return a > b ? a : b;
    case IAM_AND:
        return wrapped(kind, left & right);
    case IAM_OR:
        return wrapped(kind, left | right);
    case IAM_XOR:
        return wrapped(kind, left ^ right);
    default:
        return b;
    }
}

/* The op of a byte; products of floats would leave the numbers that are exact. */
static iam_op take_op(world *w)
{
    iam_op op = (iam_op)(take(w) % IAM_OP_COUNT);
    bool is_exact = op != IAM_MUL || w->options.kind != IAM_FLOAT64;
    return is_exact && iam_op_defined(op, w->options.kind) ? op : IAM_ADD;
}

/* Rows for a batch: item j of row i is a number that follows from a byte; float64 and uint8 keep it small. */
static int64_t number_at(world *w, uint64_t salt, size_t i, size_t item)
{
    uint64_t state = salt * 0x10001 + i * 131 + item;
    return w->options.kind == IAM_UINT8 ? (int64_t)(state & 0xff) : (int64_t)(state % 251) - 125;
}

static void *rows_made(world *w, uint64_t salt, size_t row_count)
{
    char *rows = malloc(row_count * w->row_bytes + 1);
    for (size_t i = 0; i < row_count; i++)
        for (size_t item = 0; item < w->row_items; item++)
            item_write(w->options.kind, rows + i * w->row_bytes, item, number_at(w, salt, i, item));
    return rows;
}

/* ---- The model --------------------------------------------------------------------------------------------------- */

static model_row **model_place(world *w, int64_t key)
{
    model_row **place = &w->places[((uint64_t)key * 0x9e3779b97f4a7c15u) >> 51];
    while (*place != NULL && (*place)->key != key)
        place = &(*place)->next;
    return place;
}

static model_row *model_find(world *w, int64_t key)
{
    return *model_place(w, key);
}

/* The row, made of zeros if it is not there. */
static model_row *model_ensure(world *w, int64_t key, bool *created_out)
{
    model_row **place = model_place(w, key);
    *created_out = *place == NULL;
    if (*place == NULL) {
        *place = calloc(1, sizeof **place + w->row_items * sizeof(int64_t));
        (*place)->key = key;
        (*place)->born = w->step;
        w->count++;
        w->changed = true;
    }
    return *place;
}

static bool model_remove(world *w, int64_t key)
{
    model_row **place = model_place(w, key), *gone = *place;
    if (gone == NULL)
        return false;
    *place = gone->next;
    free(gone);
    w->count--;
    w->changed = true;
    return true;
}

static void model_clear(world *w)
{
    for (int place = 0; place < PLACES; place++)
        while (w->places[place] != NULL)
            model_remove(w, w->places[place]->key);
}

static void expect_row(const world *w, const void *row, const int64_t *items)
{
    EXPECT(row != NULL);
    for (size_t item = 0; item < w->row_items; item++)
        EXPECT(item_read(w->options.kind, row, item) == items[item]);
}

static void expect_row_made(world *w, const void *row, uint64_t salt, size_t i)
{
    for (size_t item = 0; item < w->row_items; item++)
        EXPECT(item_read(w->options.kind, row, item) == number_at(w, salt, i, item));
}

/* Rows of this storage that are there for the sake of their views alone (R3): each is counted by its first view. */
static uint64_t rows_held(const world *w)
{
    uint64_t count = 0;
    for (int i = 0; i < w->view_count; i++) {
        const iam_view *view = &w->views[i]->view;
        bool is_dead = view->rows == iam_map_rows(w->map) && !rows_present(view->rows, view->number);
        for (int before = 0; before < i; before++)
            is_dead = is_dead && w->views[before]->view.hold != view->hold;
        count += is_dead;
    }
    return count;
}

static void compare(world *w)
{
    iam_stats stats;
    iam_map_stats(w->map, &stats);
    /* A directory over keys that lie far apart is walked from end to end: 0.1 s of nothing, so not after each step. */
    if (stats.bytes_directory < 1 << 20 || w->step % 64 == 0 || w->at == w->end)
        harness_validate(w->map);
    EXPECT(iam_map_count(w->map) == w->count && stats.rows_held == rows_held(w));
    for (int place = 0; place < PLACES; place++)
        for (const model_row *row = w->places[place]; row != NULL; row = row->next)
            expect_row(w, iam_map_find(w->map, row->key, NULL), row->items);
}

/* Views show what they must after every step: their key's row, or what it was when the key went. */
static void compare_views(world *w)
{
    for (int i = 0; i < w->view_count; i++) {
        held_view *held = w->views[i];
        const model_row *row = model_find(w, held->key);
        if (row != NULL && (held->lives || iam_map_find(w->map, held->key, NULL) == held->row)) {
            held->lives = true;
            EXPECT(iam_map_find(w->map, held->key, NULL) == held->row);
            memcpy(held->items, row->items, w->row_items * sizeof(int64_t));
        } else {
            held->lives = false;
        }
        expect_row(w, held->row, held->items);
    }
}

/* ---- Keys -------------------------------------------------------------------------------------------------------- */

static int64_t key_that_is_there(world *w)
{
    unsigned first = take(w) * (PLACES / 256u);
    for (unsigned i = 0; i < PLACES; i++)
        if (w->places[(first + i) % PLACES] != NULL)
            return w->places[(first + i) % PLACES]->key;
    return first;
}

static int64_t take_key(world *w)
{
    static const int64_t edges[] = {INT64_MIN, INT64_MIN + 1, -1, 0, INT64_MAX - 1, INT64_MAX, 1ll << 31, 1ll << 40};
    switch (take(w) % 8) {
    case 0:
    case 1:
        return take(w);
    case 2:
        return take_number(w) * 1000003;
    case 3:
        return (int64_t)take_long(w);
    case 4:
        return edges[take(w) % 8];
    case 5:
        return (int64_t)((uint64_t)take(w) << (take(w) % 57));
    default:
        return key_that_is_there(w);
    }
}

/* So many keys that the map stays small enough for a few thousand runs a second. */
static size_t count_allowed(const world *w, size_t count)
{
    size_t rows_most = MAP_ITEMS_MOST / w->row_items;
    if ((w->options.hash_and | w->options.hash_or) != 0)
        rows_most = COLLIDING_MOST;
    size_t room = w->count < rows_most ? rows_most - w->count : 0;
    size_t most = room < BATCH_MOST ? room : BATCH_MOST;
    return count < most ? count : most;
}

static void take_keys(world *w)
{
    static const uint64_t strides[] = {1, (uint64_t)-1, 2, 8, 129, 4096, 1u << 20, (uint64_t)1 << 40};
    unsigned how = take(w);
    size_t count = 0;
    if (how % 4 == 0) {
        for (count = take(w) % 24; w->key_count < count; w->key_count++)
            w->keys[w->key_count] = take_key(w);
        return;
    }
    count = count_allowed(w, take(w) * (how >= 248 ? 80u : how & 64 ? 12u : 3u));
    uint64_t state = take(w), mask = UINT64_MAX >> (how / 4 % 8 * 8);
    if (how % 4 == 1) {
        for (; w->key_count < count; w->key_count++)
            w->keys[w->key_count] = (int64_t)(harness_random(&state) & mask);
        return;
    }
    uint64_t first = (uint64_t)take_key(w), stride = strides[state % 8], times = how % 4 == 3 ? 3 : 1;
    for (; w->key_count < count; w->key_count++)
        w->keys[w->key_count] = (int64_t)(first + w->key_count / times * stride);
}

/* ---- What calls may answer --------------------------------------------------------------------------------------- */

static bool has_refused(const world *w)
{
    return atomic_load(&w->allocator.refused) > w->refused_before;
}

/* Whether the call was done; else it had a reason to refuse. */
static bool is_done(const world *w, iam_status status)
{
    if (status == IAM_NO_MEMORY)
        EXPECT(has_refused(w));
    else if (status == IAM_TOO_SPARSE)
        EXPECT(w->options.index == IAM_INDEX_DIRECT);
    else
        EXPECT(status == IAM_OK);
    return status == IAM_OK;
}

static void write_lock(world *w)
{
    EXPECT(iam_map_try_lock(w->map, true, 1) == IAM_OK);
    EXPECT(iam_map_look(w->map, false, 1) == IAM_LOCKED && iam_map_look(w->map, true, 2) == IAM_FORKED);
}

static void write_unlock(world *w)
{
    iam_map_unlock(w->map, true);
    EXPECT(iam_map_look(w->map, true, 1) == IAM_OK);
}

/* ---- One key ------------------------------------------------------------------------------------------------------
 */

static void do_put(world *w)
{
    int64_t key = take_key(w);
    uint64_t salt = take(w);
    if (count_allowed(w, 1) == 0)
        return;
    char *row = rows_made(w, salt, 1);
    write_lock(w);
    iam_status status = iam_map_put(w->map, key, row);
    write_unlock(w);
    free(row);
    bool created;
    if (is_done(w, status)) {
        model_row *there = model_ensure(w, key, &created);
        for (size_t item = 0; item < w->row_items; item++)
            there->items[item] = number_at(w, salt, 0, item);
    }
}

/* A row of the map itself is put under another key. */
static void do_put_own(world *w)
{
    int64_t from = key_that_is_there(w), to = take_key(w);
    const model_row *source = model_find(w, from);
    if (source == NULL || count_allowed(w, 1) == 0)
        return;
    write_lock(w);
    iam_status status = iam_map_put(w->map, to, iam_map_find(w->map, from, NULL));
    write_unlock(w);
    bool created;
    if (is_done(w, status))
        memmove(model_ensure(w, to, &created)->items, source->items, w->row_items * sizeof(int64_t));
}

static void do_ensure(world *w)
{
    int64_t key = take_key(w);
    if (count_allowed(w, 1) == 0)
        return;
    void *row = NULL;
    uint32_t number = 0, found;
    bool created = false, expected;
    write_lock(w);
    iam_status status = iam_map_ensure(w->map, key, &row, &number, &created);
    write_unlock(w);
    if (!is_done(w, status))
        return;
    const model_row *there = model_ensure(w, key, &expected);
    EXPECT(created == expected && iam_map_find(w->map, key, &found) == row && found == number);
    EXPECT(iam_map_row(w->map, number) == row);
    expect_row(w, row, there->items);
}

static void do_remove(world *w)
{
    int64_t key = take_key(w);
    write_lock(w);
    iam_status status = iam_map_remove(w->map, key);
    write_unlock(w);
    EXPECT(status == (model_remove(w, key) ? IAM_OK : IAM_MISSING));
}

static void do_find(world *w)
{
    int64_t key = take_key(w);
    uint32_t number = 7;
    const void *row = iam_map_find(w->map, key, &number);
    EXPECT((row != NULL) == (model_find(w, key) != NULL) && (number == IAM_ROW_NONE) == (row == NULL));
    void *last = NULL;
    EXPECT(iam_map_last(w->map, &key, &last) == (w->count > 0));
    if (w->count > 0)
        expect_row(w, last, model_find(w, key)->items);
}

/* ---- Views, blocks, scans ---------------------------------------------------------------------------------------- */

static void do_view_take(world *w)
{
    int64_t key = key_that_is_there(w);
    uint32_t number;
    void *row = iam_map_find(w->map, key, &number);
    if (row == NULL || w->view_count == VIEWS_MOST)
        return;
    held_view *held = calloc(1, sizeof *held + w->row_items * sizeof(int64_t));
    held->key = key;
    held->row = row;
    held->lives = true;
    if (is_done(w, iam_view_take(w->map, number, &held->view)))
        w->views[w->view_count++] = held;
    else
        free(held);
}

static void view_release(world *w, int i)
{
    iam_view_release(&w->views[i]->view);
    free(w->views[i]);
    w->views[i] = w->views[--w->view_count];
}

static void do_view_release(world *w)
{
    if (w->view_count > 0)
        view_release(w, take(w) % w->view_count);
}

/* Through a view: its key's row changes, or nobody's. */
static void do_view_write(world *w)
{
    if (w->view_count == 0)
        return;
    held_view *held = w->views[take(w) % w->view_count];
    size_t item = take(w) % w->row_items;
    int64_t number = number_at(w, take(w), 0, item);
    item_write(w->options.kind, held->row, item, number);
    for (int i = 0; i < w->view_count; i++)
        if (w->views[i]->row == held->row)
            w->views[i]->items[item] = number;
    model_row *row = model_find(w, held->key);
    if (held->lives && row != NULL)
        row->items[item] = number;
}

static void blocks_read(const world *w)
{
    uint64_t present = 0;
    volatile char seen = 0;
    for (uint64_t at = 0; at < iam_map_block_count(w->map); at++) {
        iam_block block;
        iam_map_block(w->map, at, &block);
        EXPECT(block.first_row % 8 == 0 && block.row_count > 0);
        int64_t *keys = malloc(block.row_count * sizeof *keys);
        iam_map_block_keys(w->map, &block, keys);
        for (uint64_t i = 0; i < block.row_count; i++) {
            const char *row = (const char *)block.rows + i * w->row_bytes;
            seen = (char)(seen + row[0] + row[w->row_bytes - 1]); /* free rows too */
            if (!(block.present[i / 8] >> (i % 8) & 1))
                continue;
            present++;
            EXPECT(iam_map_find(w->map, keys[i], NULL) == row && (block.keys == NULL || block.keys[i] == keys[i]));
        }
        free(keys);
    }
    EXPECT(present == w->count);
}

static void do_blocks_take(world *w)
{
    if (w->block_count == BLOCKS_MOST)
        return;
    iam_blocks_take(w->map);
    w->blocks[w->block_count++] = (held_block){iam_map_rows(w->map), w->map_number};
    blocks_read(w);
}

static void blocks_release(world *w, int i)
{
    iam_blocks_release(w->blocks[i].rows);
    w->blocks[i] = w->blocks[--w->block_count];
}

static void do_blocks_release(world *w)
{
    if (w->block_count > 0)
        blocks_release(w, take(w) % w->block_count);
}

static void scan_end(world *w)
{
    if (w->scans)
        iam_scans_release(w->map);
    w->scans = false;
}

/* Go's rules: no deleted key comes, none twice, and one that was there throughout comes exactly once. */
static void do_scan(world *w)
{
    if (!w->scans) {
        iam_scans_take(w->map);
        w->scans = true;
        w->scan++;
        w->scan_began = w->step;
        w->scan_position = 0;
        w->scan_epoch = iam_map_epoch(w->map);
    }
    if (w->scan_epoch != iam_map_epoch(w->map)) {
        scan_end(w);
        return;
    }
    enum { PAIRS = 40 };
    int64_t keys[PAIRS];
    uint32_t numbers[PAIRS];
    size_t wanted = take(w) % PAIRS + 1;
    size_t count = iam_map_walk(w->map, false, &w->scan_position, wanted, keys, numbers);
    for (size_t i = 0; i < count; i++) {
        model_row *row = model_find(w, keys[i]);
        EXPECT(row != NULL && row->scanned != w->scan);
        row->scanned = w->scan;
        expect_row(w, iam_map_row(w->map, numbers[i]), row->items);
    }
    if (count == wanted)
        return;
    for (int place = 0; place < PLACES; place++)
        for (const model_row *row = w->places[place]; row != NULL; row = row->next)
            EXPECT(row->scanned == w->scan || row->born >= w->scan_began);
    scan_end(w);
}

static void do_walk(world *w)
{
    for (int backward = 0; backward < 2; backward++) {
        uint64_t position = backward ? UINT64_MAX : 0, total = 0;
        int64_t keys[64];
        uint32_t numbers[64], before = 0;
        for (size_t count; (count = iam_map_walk(w->map, backward, &position, 64, keys, numbers)) > 0;)
            for (size_t i = 0; i < count; i++, before = numbers[i - 1]) {
                EXPECT(total == 0 || (backward ? numbers[i] < before : numbers[i] > before));
                EXPECT(model_find(w, keys[i]) != NULL);
                total++;
            }
        EXPECT(total == w->count);
    }
}

/* ---- Many keys --------------------------------------------------------------------------------------------------- */

static void do_get_many(world *w)
{
    take_keys(w);
    bool has_defaults = take(w) % 2;
    uint64_t salt = take(w), missing_count = 0, position = 0;
    size_t stride = take(w) % 2 ? w->row_bytes : 0;
    w->key_count = count_allowed(w, w->key_count);
    for (size_t i = w->key_count; i-- > 0;)
        if (model_find(w, w->keys[i]) == NULL) {
            missing_count++;
            position = i;
        }
    char *out = malloc(w->key_count * w->row_bytes + 1);
    char *defaults = rows_made(w, salt, stride == 0 ? 1 : w->key_count);
    uint8_t *found = malloc(w->key_count + 1);
    iam_missing missing = {0};
    iam_status status = iam_map_get_many(w->map, w->keys, w->key_count, out, has_defaults ? defaults : NULL, stride,
                                         take(w) % 2 || has_defaults ? found : NULL, &missing);
    if (!has_defaults && missing_count > 0) {
        EXPECT(status == IAM_MISSING && missing.count == missing_count && missing.position == position);
        EXPECT(missing.key == w->keys[position]);
    } else {
        EXPECT(status == IAM_OK);
        for (size_t i = 0; i < w->key_count; i++) {
            const model_row *row = model_find(w, w->keys[i]);
            EXPECT(!has_defaults || found[i] == (row != NULL));
            if (row != NULL)
                expect_row(w, out + i * w->row_bytes, row->items);
            else
                expect_row_made(w, out + i * w->row_bytes, salt, stride == 0 ? 0 : i);
        }
    }
    free(found);
    free(defaults);
    free(out);
}

static void do_contains_many(world *w)
{
    take_keys(w);
    uint8_t *found = malloc(w->key_count + 1);
    int64_t *numbers = malloc(w->key_count * sizeof *numbers + 1);
    iam_map_contains_many(w->map, w->keys, w->key_count, found);
    iam_map_index_many(w->map, w->keys, w->key_count, numbers);
    for (size_t i = 0; i < w->key_count; i++) {
        uint32_t number;
        iam_map_find(w->map, w->keys[i], &number);
        EXPECT(found[i] == (model_find(w, w->keys[i]) != NULL));
        EXPECT(numbers[i] == (number == IAM_ROW_NONE ? -1 : (int64_t)number));
    }
    free(numbers);
    free(found);
}

static void do_update_many(world *w)
{
    take_keys(w);
    iam_op op = take(w) % 2 ? take_op(w) : IAM_SET;
    uint64_t salt = take(w);
    size_t stride = take(w) % 4 ? w->row_bytes : 0;
    w->key_count = count_allowed(w, w->key_count);
    char *rows = rows_made(w, salt, stride == 0 ? 1 : w->key_count);
    write_lock(w);
    iam_status status = iam_map_update_many(w->map, w->keys, w->key_count, rows, stride, op);
    write_unlock(w);
    free(rows);
    for (size_t i = 0; is_done(w, status) && i < w->key_count; i++) {
        bool created;
        model_row *row = model_ensure(w, w->keys[i], &created);
        for (size_t item = 0; item < w->row_items; item++) {
            int64_t number = number_at(w, salt, stride == 0 ? 0 : i, item);
            if (!created)
                number = applied(w->options.kind, op, row->items[item], number);
            else if (op == IAM_SUB)
                number = applied(w->options.kind, op, 0, number);
            row->items[item] = number;
        }
    }
}

static void do_add_at(world *w)
{
    take_keys(w);
    uint64_t salt = take(w);
    size_t item_stride = take(w) % 2, value_stride = take(w) % 2 ? w->item_bytes : 0;
    w->key_count = count_allowed(w, w->key_count);
    int64_t *items = malloc((w->key_count + 1) * sizeof *items);
    char *values = malloc((w->key_count + 1) * w->item_bytes);
    for (size_t i = 0; i <= w->key_count; i++) {
        items[i] = (int64_t)((salt + i * 7) % w->row_items);
        item_write(w->options.kind, values, i, number_at(w, salt, i, 0));
    }
    write_lock(w);
    iam_status status = iam_map_add_at(w->map, w->keys, w->key_count, items, item_stride, values, value_stride);
    write_unlock(w);
    for (size_t i = 0; is_done(w, status) && i < w->key_count; i++) {
        bool created;
        int64_t *item = &model_ensure(w, w->keys[i], &created)->items[items[i * item_stride]];
        int64_t number = number_at(w, salt, value_stride == 0 ? 0 : i, 0);
        *item = applied(w->options.kind, IAM_ADD, *item, number);
    }
    free(values);
    free(items);
}

static void do_ensure_many(world *w)
{
    take_keys(w);
    uint64_t salt = take(w);
    w->key_count = count_allowed(w, w->key_count);
    char *fill = rows_made(w, salt, 1);
    int64_t *numbers = malloc(w->key_count * sizeof *numbers + 1);
    uint8_t *created = malloc(w->key_count + 1);
    write_lock(w);
    iam_status status = iam_map_ensure_many(w->map, w->keys, w->key_count, fill, numbers, created);
    write_unlock(w);
    for (size_t i = 0; is_done(w, status) && i < w->key_count; i++) {
        bool expected;
        uint32_t number;
        model_row *row = model_ensure(w, w->keys[i], &expected);
        for (size_t item = 0; expected && item < w->row_items; item++)
            row->items[item] = number_at(w, salt, 0, item);
        EXPECT(created[i] == expected && iam_map_find(w->map, w->keys[i], &number) != NULL && numbers[i] == number);
    }
    free(created);
    free(numbers);
    free(fill);
}

static void do_delete_many(world *w)
{
    take_keys(w);
    uint8_t *removed = malloc(w->key_count + 1);
    write_lock(w);
    iam_map_delete_many(w->map, w->keys, w->key_count, removed);
    write_unlock(w);
    for (size_t i = 0; i < w->key_count; i++)
        EXPECT(removed[i] == model_remove(w, w->keys[i]));
    free(removed);
}

static void do_pop_many(world *w)
{
    take_keys(w);
    bool has_defaults = take(w) % 2;
    uint64_t salt = take(w), missing_count = 0;
    size_t position = 0;
    w->key_count = count_allowed(w, w->key_count);
    w->mark++;
    for (size_t i = 0; i < w->key_count; i++) {
        model_row *row = model_find(w, w->keys[i]);
        if ((row == NULL || row->mark == w->mark) && missing_count++ == 0)
            position = i;
        if (row != NULL)
            row->mark = w->mark;
    }
    char *out = malloc(w->key_count * w->row_bytes + 1), *defaults = rows_made(w, salt, w->key_count);
    iam_missing missing = {0};
    write_lock(w);
    iam_status status =
        iam_map_pop_many(w->map, w->keys, w->key_count, out, has_defaults ? defaults : NULL, w->row_bytes, &missing);
    write_unlock(w);
    if (status == IAM_MISSING) {
        EXPECT(!has_defaults && missing.count == missing_count && missing.position == position);
        EXPECT(missing.key == w->keys[position]);
    } else if (is_done(w, status)) {
        EXPECT(has_defaults || missing_count == 0);
        for (size_t i = 0; i < w->key_count; i++) {
            const model_row *row = model_find(w, w->keys[i]);
            if (row == NULL) {
                expect_row_made(w, out + i * w->row_bytes, salt, i);
                continue;
            }
            expect_row(w, out + i * w->row_bytes, row->items);
            model_remove(w, w->keys[i]);
        }
    }
    free(defaults);
    free(out);
}

static void do_export(world *w)
{
    int64_t *keys = malloc(w->count * sizeof *keys + 1);
    char *rows = malloc(w->count * w->row_bytes + 1);
    bool with_keys = take(w) % 4 != 0;
    EXPECT(iam_map_export(w->map, with_keys ? keys : NULL, rows));
    uint64_t position = 0;
    for (uint64_t i = 0; i < w->count; i++) {
        int64_t key;
        EXPECT(iam_map_walk(w->map, false, &position, 1, &key, NULL) == 1 && (!with_keys || keys[i] == key));
        expect_row(w, rows + i * w->row_bytes, model_find(w, key)->items);
    }
    EXPECT(w->count == 0 || !with_keys || iam_map_overlaps(w->map, iam_map_find(w->map, keys[0], NULL), 1));
    EXPECT(!iam_map_overlaps(w->map, rows, w->count * w->row_bytes + 1));
    free(rows);
    free(keys);
}

/* ---- The whole map ------------------------------------------------------------------------------------------------
 */

static void do_clear(world *w)
{
    write_lock(w);
    iam_status status = iam_map_clear(w->map);
    write_unlock(w);
    if (!is_done(w, status))
        return;
    model_clear(w);
    w->map_number++;
    w->changed = true;
}

static void do_reserve(world *w)
{
    uint64_t wanted = take(w) * (uint64_t)(take(w) % 8 * 4);
    wanted = count_allowed(w, wanted);
    write_lock(w);
    iam_status status = iam_map_reserve(w->map, wanted);
    write_unlock(w);
    is_done(w, status);
}

static bool is_held(const world *w)
{
    bool held = w->scans;
    for (int i = 0; i < w->view_count; i++)
        held |= w->views[i]->view.rows == iam_map_rows(w->map);
    for (int i = 0; i < w->block_count; i++)
        held |= w->blocks[i].rows == iam_map_rows(w->map);
    return held;
}

static void do_compact(world *w)
{
    write_lock(w);
    iam_status status = iam_map_compact(w->map);
    write_unlock(w);
    if (is_held(w)) {
        EXPECT(status == IAM_HELD);
        return;
    }
    w->changed = is_done(w, status) || w->changed;
}

/* The map is gone; `fresh` takes its place. Views and blocks of the old one stay. */
static void move_to(world *w, iam_map *fresh)
{
    scan_end(w);
    iam_map_destroy(w->map);
    w->map = fresh;
    w->map_number++;
    for (int i = 0; i < w->view_count; i++)
        w->views[i]->lives = false;
}

static void do_copy(world *w)
{
    iam_map *copy = NULL;
    if (!is_done(w, iam_map_copy(w->map, 77, &copy)))
        return;
    EXPECT(iam_map_index_asked(copy) == w->options.index && iam_map_kind(copy) == w->options.kind);
    move_to(w, copy);
}

static void image_release(void *state, void *bytes, uint64_t byte_count)
{
    (void)state, (void)byte_count;
    free(bytes);
}

/* Saved, opened, verified, trusted, and gone on with. */
static void do_save(world *w)
{
    iam_about about = {.axis_count = 1, .axes = {w->row_items}}, about_back;
    iam_save *save = NULL;
    if (!is_done(w, iam_save_begin(w->map, 5, &about, &save)))
        return;
    bool ready = false;
    while (!ready)
        if (!is_done(w, iam_save_prepare(save, &ready))) {
            iam_save_end(save);
            return;
        }
    uint64_t total = iam_save_bytes(save), done = 0;
    char *bytes = aligned_alloc(4096, (total + 4095) / 4096 * 4096), *piece = malloc(IAM_SAVE_ROOM_LEAST);
    for (size_t more; (more = iam_save_next(save, piece, IAM_SAVE_ROOM_LEAST)) > 0; done += more) {
        EXPECT(done + more <= total);
        memcpy(bytes + done, piece, more);
    }
    EXPECT(done == total);
    free(piece);
    iam_save_end(save);
    iam_mapping mapping = {.bytes = bytes, .byte_count = total, .release = image_release};
    iam_map *opened = NULL;
    char reason[256] = "";
    EXPECT(iam_image_open(&mapping, 3, &opened, &about_back, reason, sizeof reason) == IAM_OK);
    EXPECT(about_back.axis_count == 1 && about_back.axes[0] == w->row_items);
    for (uint64_t block = 0; block != UINT64_MAX;)
        EXPECT(iam_image_verify_blocks(bytes, &block, 1 << 16, reason, sizeof reason) == IAM_OK);
    EXPECT(iam_image_verify(opened, reason, sizeof reason) == IAM_OK);
    iam_image_info info;
    iam_image_info_read(bytes, &info);
    EXPECT(info.file_bytes == total);
    EXPECT(iam_image_trust(opened) == IAM_OK);
    move_to(w, opened);
    w->can_fail = false; /* it has no allocator but the system's */
}

static void do_stats(world *w)
{
    iam_stats stats;
    uint64_t fill[9], total = 0;
    iam_map_stats(w->map, &stats);
    EXPECT(stats.count == w->count && stats.index == iam_map_index(w->map) && stats.bytes == iam_map_bytes(w->map));
    EXPECT(stats.allocations == iam_map_allocations(w->map) && stats.rows_used >= stats.count + stats.rows_held);
    EXPECT(stats.scans == w->scans);
    iam_map_fill(w->map, fill, 9);
    for (int i = 0; i < 9; i++)
        total += fill[i];
    if (!stats.leaving_direct)
        EXPECT(total == (stats.index == IAM_INDEX_HASH ? stats.bucket_count : stats.page_count));
}

static void do_result(world *w)
{
    size_t bytes = (size_t)take(w) * take(w) + 1;
    char *block = iam_result_allocate(bytes);
    if (block != NULL)
        block[0] = block[bytes - 1] = 1;
    iam_result_release(block, bytes);
}

/* ---- From the first byte to the last ------------------------------------------------------------------------------
 */

typedef void operation(world *w);

static operation *const operations[] = {
    do_put,         do_put,         do_put_own,     do_ensure,        do_remove,      do_remove,         do_find,
    do_view_take,   do_view_take,   do_view_write,  do_view_release,  do_blocks_take, do_blocks_release, do_scan,
    do_scan,        do_walk,        do_get_many,    do_contains_many, do_update_many, do_update_many,    do_add_at,
    do_ensure_many, do_delete_many, do_delete_many, do_pop_many,      do_export,      do_clear,          do_reserve,
    do_compact,     do_copy,        do_save,        do_stats,         do_result,
};

enum { OPERATIONS = sizeof operations / sizeof operations[0] };

static bool begin(world *w, iam_spare *spare)
{
    static const iam_kind kinds[] = {IAM_INT64, IAM_INT32, IAM_UINT8, IAM_FLOAT64};
    static const size_t row_items[] = {1, 8, 2, 3, 4, 9, 33, ITEMS_MOST};
    /* Of a quarter of the inputs all hashes are poor: all zeros, all ones, one bucket, two tags. */
    static const uint64_t masks[][2] = {{0, 0}, {0, 0}, {UINT64_MAX << 56, 1}, {0xff, 0}};
    static const uint64_t poor[][2] = {
        {(uint64_t)1 << 45, 0}, {0, UINT64_MAX}, {UINT64_MAX << 56, 0}, {0x80ffffffffffffffu, 0}};
    uint8_t first = take(w), second = take(w), third = take(w);
    const uint64_t *mask = third / 4 % 4 == 1 ? poor[third % 4] : masks[third % 4];
    w->options = (iam_options){
        .row_items = w->row_items = row_items[first / 4 % 8],
        .kind = kinds[first % 4],
        .index = (iam_index)(first / 32 % 3),
        .seed = 42,
        .capacity = third / 64 == 3 ? take(w) : 0,
        .growth = third & 16 ? IAM_GROWTH_STOP : IAM_GROWTH_STEPS,
        .huge_pages = third & 32 ? IAM_OFF : IAM_AUTO,
        .pipeline = (iam_switch)(second % 3),
        .reserve = second & 8 ? IAM_OFF : IAM_AUTO,
        .simd = second & 16 ? IAM_SIMD_SCALAR : IAM_SIMD_AUTO,
        .serial_views = second >> 5 & 1,
        .spare = second & 64 ? spare : NULL,
        .hash_and = mask[0],
        .hash_or = mask[1],
    };
    w->allocator.block_most = SIZE_MAX;
    iam_allocator allocator = failing_allocator(&w->allocator);
    w->can_fail = !(second & 128);
    if (w->can_fail)
        w->options.allocator = allocator;
    w->item_bytes = iam_kind_bytes(w->options.kind);
    w->row_bytes = w->item_bytes * w->row_items;
    return iam_map_create(&w->options, &w->map) == IAM_OK;
}

static void arm(world *w, uint8_t byte)
{
    w->is_armed = w->can_fail && byte >= 4 * OPERATIONS;
    w->refused_before = atomic_load(&w->allocator.refused);
    if (!w->is_armed)
        return;
    uint8_t how = take(w);
    atomic_store(&w->allocator.refuses_once, how >= 128);
    atomic_store(&w->allocator.until_failure, how % 32);
}

static void one_step(world *w)
{
    uint8_t byte = take(w);
    w->step++;
    w->key_count = 0;
    w->changed = false;
    uint64_t version = iam_map_version(w->map), number = w->map_number;
    arm(w, byte);
    operations[byte % OPERATIONS](w);
    atomic_store(&w->allocator.until_failure, FAILING_NEVER);
    if (number == w->map_number)
        EXPECT((iam_map_version(w->map) != version) == w->changed);
    compare_views(w);
    /* All of a large map is compared every eighth time, and when memory was refused. */
    if (w->count < 300 || w->step % 8 == 0 || has_refused(w))
        compare(w);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t byte_count)
{
    world *w = calloc(1, sizeof *w);
    w->at = bytes;
    w->end = bytes + byte_count;
    iam_spare *spare = iam_spare_create();
    if (begin(w, spare)) {
        for (int step = 0; step < STEPS_MOST && w->at < w->end; step++)
            one_step(w);
        compare(w);
        scan_end(w);
        iam_map_destroy(w->map);
        w->map = NULL;
    }
    model_clear(w);
    /* What is held outlives the map. */
    for (; w->view_count > 0; view_release(w, 0))
        expect_row(w, w->views[0]->row, w->views[0]->items);
    while (w->block_count > 0)
        blocks_release(w, 0);
    EXPECT(atomic_load(&w->allocator.alive) == 0);
    iam_spare_destroy(spare);
    free(w);
    return 0;
}
