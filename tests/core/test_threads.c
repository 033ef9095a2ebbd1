/* test_threads.c: threads that share maps through the front door, each under the map's lock, as the binding uses it;
 * and what needs no lock: views and blocks that go, maps that go. Written for ThreadSanitizer (make check-tsan), which
 * sees a race whether or not it does harm; what the threads find is checked too. The lock by itself is test_lock.c. */
#include "image_bytes.h"

#include <pthread.h>
#include <sched.h>

enum { FORK_COUNT = 3, ROW = 4, KEYS = 2000, BATCH = 128, ACTORS_MOST = 8 };

static const iam_index INDEXES[] = {IAM_INDEX_HASH, IAM_INDEX_DIRECT, IAM_INDEX_AUTO};

typedef struct story {
    iam_map *map, *other;
    failing memory;
    iam_spare *spare;
    _Atomic int acting;  /* actors that end by themselves; the others go on until none is left */
    _Atomic int baton;   /* what actors hand to each other */
    pthread_mutex_t gil; /* of stories told as under Python's */
    iam_view views[KEYS];
    iam_rows *blocks[64];
    iam_map *maps[64];
} story;

typedef struct actor {
    pthread_t thread;
    void (*act)(struct actor *);
    story *story;
    uint64_t seed, number, count;
} actor;

/* ---- The stage --------------------------------------------------------------------------------------------------- */

static void *enter(void *state)
{
    actor *self = state;
    self->act(self);
    return NULL;
}

static void cast(actor *self, story *s, uint64_t number, void (*act)(actor *))
{
    *self = (actor){.act = act, .story = s, .number = number, .seed = number * 77 + 1};
    EXPECT(pthread_create(&self->thread, NULL, enter, self) == 0);
}

/* `ending` of the given actors end by themselves: the first ones. */
static void play(story *s, int ending, int count, void (*const *acts)(actor *))
{
    actor actors[ACTORS_MOST];
    atomic_store(&s->acting, ending);
    for (int i = 0; i < count; i++)
        cast(&actors[i], s, (uint64_t)i, acts[i]);
    for (int i = 0; i < count; i++)
        EXPECT(pthread_join(actors[i].thread, NULL) == 0);
}

static void end_of_act(actor *self)
{
    atomic_fetch_sub(&self->story->acting, 1);
}

static bool goes_on(const actor *self)
{
    return atomic_load(&self->story->acting) > 0;
}

static iam_map *new_map(story *s, iam_index index)
{
    iam_options options = {.row_items = ROW, .kind = IAM_FLOAT64, .index = index, .seed = 5, .pipeline = IAM_ON};
    options.allocator = failing_allocator(&s->memory);
    iam_map *map = NULL;
    EXPECT(iam_map_create(&options, &map) == IAM_OK);
    return map;
}

static void take_lock(const iam_map *map, bool exclusive)
{
    while (iam_map_try_lock(map, exclusive, FORK_COUNT) != IAM_OK)
        iam_map_wait(map, exclusive, 50);
}

static void fill_row(double *row, double number)
{
    for (int item = 0; item < ROW; item++)
        row[item] = number;
}

static void choose_keys(actor *self, int64_t *keys, int64_t count)
{
    for (int i = 0; i < BATCH; i++)
        keys[i] = (int64_t)(harness_random(&self->seed) % (uint64_t)count);
}

static bool is_torn(const double *row)
{
    return row[0] != row[1] || row[0] != row[2] || row[0] != row[3];
}

static void set_all(iam_map *map, int64_t first, int64_t count)
{
    for (int64_t key = first; key < first + count; key++) {
        double row[ROW];
        fill_row(row, (double)key);
        EXPECT(iam_map_put(map, key, row) == IAM_OK);
    }
}

static void end_story(story *s)
{
    harness_validate(s->map);
    iam_map_destroy(s->map);
    EXPECT(atomic_load(&s->memory.alive) == 0);
}

/* ---- Readers beside writers ----------------------------------------------------------------------------------------
 */

static void write_batches(actor *self)
{
    iam_map *map = self->story->map;
    for (int turn = 0; turn < 150; turn++) {
        int64_t keys[BATCH], items[1] = {0}, numbers[BATCH];
        double rows[BATCH][ROW], row[ROW], zero[ROW] = {0};
        uint8_t flags[BATCH];
        iam_missing missing;
        choose_keys(self, keys, KEYS);
        fill_row(row, turn);
        take_lock(map, true);
        switch (turn % 8) {
        case 0:
            EXPECT(iam_map_update_many(map, keys, BATCH, row, 0, IAM_SET) == IAM_OK);
            break;
        case 1:
            EXPECT(iam_map_update_many(map, keys, BATCH, row, 0, IAM_ADD) == IAM_OK);
            break;
        case 2:
            iam_map_delete_many(map, keys, BATCH / 2, flags);
            break;
        case 3:
            EXPECT(iam_map_pop_many(map, keys, BATCH / 2, rows, zero, 0, &missing) == IAM_OK);
            break;
        case 4:
            EXPECT(iam_map_ensure_many(map, keys, BATCH, row, numbers, flags) == IAM_OK);
            break;
        case 5:
            for (int i = 0; i < BATCH; i++)
                EXPECT(iam_map_put(map, keys[i], row) == IAM_OK);
            break;
        case 6:
            for (int i = 0; i < BATCH; i++)
                iam_map_remove(map, keys[i]);
            break;
        default:
            for (items[0] = 0; items[0] < ROW; items[0]++)
                EXPECT(iam_map_add_at(map, keys, BATCH, items, 0, row, 0) == IAM_OK);
            break;
        }
        iam_map_unlock(map, true);
    }
    end_of_act(self);
}

static void read_batches(actor *self)
{
    const iam_map *map = self->story->map;
    do {
        int64_t keys[BATCH], numbers[BATCH];
        double rows[BATCH][ROW], zero[ROW] = {0};
        uint8_t found[BATCH], there[BATCH];
        iam_missing missing;
        iam_stats stats;
        choose_keys(self, keys, KEYS);
        take_lock(map, false);
        EXPECT(iam_map_get_many(map, keys, BATCH, rows, zero, 0, found, &missing) == IAM_OK);
        iam_map_contains_many(map, keys, BATCH, there);
        iam_map_index_many(map, keys, BATCH, numbers);
        const double *row = iam_map_find(map, keys[0], NULL);
        EXPECT((row != NULL) == found[0] && (row == NULL || (row[0] == rows[0][0] && !is_torn(row))));
        if (self->count++ % 16 == 0) {
            iam_map_stats(map, &stats);
            EXPECT(stats.count == iam_map_count(map));
            harness_validate(map);
        }
        iam_map_unlock(map, false);
        for (int i = 0; i < BATCH; i++)
            EXPECT(!is_torn(rows[i]) && found[i] == there[i] && found[i] == (numbers[i] >= 0));
    } while (goes_on(self));
}

static void test_readers_beside_writers(void)
{
    for (int which = 0; which < 3; which++) {
        story s = {0};
        s.map = new_map(&s, INDEXES[which]);
        play(&s, 2, 4, (void (*const[])(actor *)){write_batches, write_batches, read_batches, read_batches});
        end_story(&s);
    }
}

/* ---- Growth beside scans -------------------------------------------------------------------------------------------
 */

/* Keys of KEYS and more come and go; those below stay. AUTO leaves the direct index on the way. */
static void grow(actor *self)
{
    iam_map *map = self->story->map;
    int64_t shift = iam_map_index_asked(map) == IAM_INDEX_DIRECT ? 0 : 20;
    for (int64_t key = KEYS; key < 4 * KEYS; key++) {
        double row[ROW];
        fill_row(row, (double)key);
        take_lock(map, true);
        EXPECT(iam_map_put(map, key << (key % 64 == 0 ? shift : 0), row) == IAM_OK);
        if (key % 3 == 0)
            iam_map_remove(map, key - 1);
        if (key % 1000 == 0)
            EXPECT(iam_map_reserve(map, (uint64_t)key + 500) == IAM_OK);
        iam_map_unlock(map, true);
    }
    end_of_act(self);
}

static void scan(actor *self)
{
    const iam_map *map = self->story->map;
    do {
        uint8_t came[KEYS] = {0};
        uint64_t position = 0;
        int64_t key;
        uint32_t number;
        bool found;
        iam_view view;
        take_lock(map, false);
        iam_scans_take(map);
        iam_map_unlock(map, false);
        do {
            take_lock(map, false);
            found = iam_map_walk(map, false, &position, 1, &key, &number) == 1;
            if (found)
                EXPECT(iam_view_take(map, number, &view) == IAM_OK);
            const double *row = found ? iam_map_row(map, number) : NULL;
            iam_map_unlock(map, false);
            if (found && key < KEYS) {
                EXPECT(!came[key]++ && row[0] == (double)key && !is_torn(row));
            }
            if (found)
                iam_view_release(&view);
        } while (found);
        for (int i = 0; i < KEYS; i++)
            EXPECT(came[i]);
        iam_scans_release(map);
    } while (goes_on(self));
}

static void test_growth_beside_scans(void)
{
    for (int which = 0; which < 3; which++) {
        story s = {0};
        s.map = new_map(&s, INDEXES[which]);
        set_all(s.map, 0, KEYS);
        play(&s, 1, 3, (void (*const[])(actor *)){grow, scan, scan});
        EXPECT(iam_map_compact(s.map) == IAM_OK);
        end_story(&s);
    }
}

/* ---- Views ---------------------------------------------------------------------------------------------------------
 */

static void clear_and_fill(actor *self)
{
    iam_map *map = self->story->map;
    for (int turn = 0; turn < 60; turn++) {
        take_lock(map, true);
        iam_status status = turn % 3 == 2 ? iam_map_compact(map) : iam_map_clear(map);
        EXPECT(status == IAM_OK || status == IAM_HELD);
        if (status == IAM_OK)
            set_all(map, 0, KEYS / 4);
        iam_map_unlock(map, true);
    }
    end_of_act(self);
}

/* A row that is never written again can be read for as long as its view lives, whatever becomes of its key. */
static void hold_views(actor *self)
{
    const iam_map *map = self->story->map;
    do {
        iam_view views[BATCH];
        const double *rows[BATCH];
        int64_t keys[BATCH];
        int count = 0;
        choose_keys(self, keys, KEYS / 4);
        for (int i = 0; i < BATCH; i++) {
            uint32_t number;
            take_lock(map, false);
            const double *row = iam_map_find(map, keys[i], &number);
            if (row != NULL) {
                EXPECT(iam_view_take(map, number, &views[count]) == IAM_OK);
                keys[count] = keys[i];
                rows[count++] = row;
            }
            iam_map_unlock(map, false);
        }
        for (int i = 0; i < count; i++)
            EXPECT(rows[i][0] == (double)keys[i] && !is_torn(rows[i]));
        while (count > 0)
            iam_view_release(&views[--count]);
    } while (goes_on(self));
}

static void test_views_beside_clear(void)
{
    for (int which = 0; which < 3; which++) {
        story s = {0};
        s.map = new_map(&s, INDEXES[which]);
        play(&s, 1, 4, (void (*const[])(actor *)){clear_and_fill, hold_views, hold_views, hold_views});
        EXPECT(iam_map_compact(s.map) == IAM_OK); /* no view is left */
        end_story(&s);
    }
}

/* Views are taken in one thread and let go in another, beside a writer that deletes their rows and makes new ones. */
static void take_and_hand_over(actor *self)
{
    story *s = self->story;
    for (int64_t key = 0; key < KEYS; key++) {
        uint32_t number;
        take_lock(s->map, false);
        EXPECT(iam_map_find(s->map, key, &number) != NULL);
        EXPECT(iam_view_take(s->map, number, &s->views[key]) == IAM_OK);
        iam_map_unlock(s->map, false);
        atomic_store(&s->baton, (int)key + 1);
    }
    end_of_act(self);
}

static void let_go(actor *self)
{
    story *s = self->story;
    for (int key = 0; key < KEYS; key++) {
        while (atomic_load(&s->baton) <= key)
            sched_yield();
        iam_view_release(&s->views[key]);
    }
    end_of_act(self);
}

static void churn(actor *self)
{
    iam_map *map = self->story->map;
    for (int64_t key = 0; key < KEYS; key++) {
        double row[ROW];
        fill_row(row, (double)key);
        while (atomic_load(&self->story->baton) <= key)
            sched_yield();
        take_lock(map, true);
        EXPECT(iam_map_remove(map, key) == IAM_OK);
        EXPECT(iam_map_put(map, KEYS + key, row) == IAM_OK);
        iam_map_unlock(map, true);
    }
    end_of_act(self);
}

static void test_views_are_released_by_others(void)
{
    for (int which = 0; which < 3; which++) {
        story s = {0};
        s.map = new_map(&s, INDEXES[which]);
        set_all(s.map, 0, KEYS);
        play(&s, 3, 3, (void (*const[])(actor *)){take_and_hand_over, let_go, churn});
        iam_stats stats;
        iam_map_stats(s.map, &stats);
        EXPECT(stats.views == 0 && stats.rows_held == 0 && stats.count == KEYS);
        end_story(&s);
    }
}

/* ---- Blocks
 * ---------------------------------------------------------------------------------------------------------- */

static void take_blocks(actor *self)
{
    story *s = self->story;
    for (int turn = 0; turn < 64; turn++) {
        iam_block block;
        take_lock(s->map, false);
        EXPECT(iam_map_block_count(s->map) > 0);
        iam_map_block(s->map, 0, &block);
        iam_blocks_take(s->map);
        s->blocks[turn] = iam_map_rows(s->map);
        iam_map_unlock(s->map, false);
        EXPECT(block.row_count > 0);
        atomic_store(&s->baton, turn + 1);
    }
    end_of_act(self);
}

static void release_blocks(actor *self)
{
    story *s = self->story;
    for (int turn = 0; turn < 64; turn++) {
        while (atomic_load(&s->baton) <= turn)
            sched_yield();
        iam_blocks_release(s->blocks[turn]);
    }
    end_of_act(self);
}

static void delete_and_insert(actor *self)
{
    iam_map *map = self->story->map;
    do {
        for (int64_t key = 0; key < KEYS / 4; key++) {
            double row[ROW];
            fill_row(row, (double)key);
            take_lock(map, true);
            iam_map_remove(map, key);
            EXPECT(iam_map_put(map, key + KEYS, row) == IAM_OK);
            iam_map_remove(map, key + KEYS);
            EXPECT(iam_map_put(map, key, row) == IAM_OK);
            iam_map_unlock(map, true);
        }
    } while (goes_on(self));
}

static void test_blocks_are_released_by_others(void)
{
    for (int which = 0; which < 3; which++) {
        story s = {0};
        s.map = new_map(&s, INDEXES[which]);
        set_all(s.map, 0, KEYS);
        play(&s, 2, 3, (void (*const[])(actor *)){take_blocks, release_blocks, delete_and_insert});
        EXPECT(iam_map_count(s.map) == KEYS && iam_map_compact(s.map) == IAM_OK);
        end_story(&s);
    }
}

/* ---- Two maps
 * -------------------------------------------------------------------------------------------------------- */

/* As the binding does: a snapshot of the one under its lock, then the other under its own. Never both at once. */
static void merge(iam_map *into, const iam_map *from)
{
    uint64_t room = 0, count;
    int64_t *keys = NULL;
    double *rows = NULL;
    for (;;) {
        take_lock(from, false);
        count = iam_map_count(from);
        if (count <= room)
            EXPECT(iam_map_export(from, keys, rows));
        iam_map_unlock(from, false);
        if (count <= room)
            break;
        room = count + count / 64;
        keys = realloc(keys, room * sizeof *keys);
        rows = realloc(rows, room * ROW * sizeof *rows);
    }
    take_lock(into, true);
    EXPECT(iam_map_update_many(into, keys, count, rows, ROW * sizeof *rows, IAM_MAX) == IAM_OK);
    iam_map_unlock(into, true);
    free(keys);
    free(rows);
}

static void merge_there(actor *self)
{
    for (int turn = 0; turn < 25; turn++)
        merge(self->story->map, self->story->other);
    end_of_act(self);
}

static void merge_back(actor *self)
{
    for (int turn = 0; turn < 25; turn++)
        merge(self->story->other, self->story->map);
    end_of_act(self);
}

static void test_merged_into_each_other(void)
{
    story s = {0};
    s.map = new_map(&s, IAM_INDEX_AUTO);
    iam_options options = {.row_items = ROW, .kind = IAM_FLOAT64, .index = IAM_INDEX_HASH, .seed = 6};
    EXPECT(iam_map_create(&options, &s.other) == IAM_OK);
    set_all(s.map, 0, KEYS);
    set_all(s.other, KEYS / 2, KEYS);
    play(&s, 4, 4, (void (*const[])(actor *)){merge_there, merge_back, merge_there, merge_back});
    EXPECT(iam_map_count(s.map) == KEYS * 3 / 2 && iam_map_count(s.other) == KEYS * 3 / 2);
    harness_validate(s.other);
    iam_map_destroy(s.other);
    end_story(&s);
}

/* ---- Maps that go
 * ---------------------------------------------------------------------------------------------------- */

/* Large enough that their pages are kept for the next one: see spare.h. */
enum { SPARE_KEYS = 20000 };

static void make_maps(actor *self)
{
    story *s = self->story;
    int64_t *keys = malloc(SPARE_KEYS * sizeof *keys);
    double (*rows)[ROW] = malloc(SPARE_KEYS * sizeof *rows);
    for (int turn = 0; turn < 8; turn++) {
        int place = (int)self->number * 8 + turn;
        for (int64_t i = 0; i < SPARE_KEYS; i++) {
            keys[i] = (int64_t)((uint64_t)(i + 1) * 0x9e3779b97f4a7c15u);
            fill_row(rows[i], (double)(i * 100 + place));
        }
        iam_options options = {.row_items = ROW, .kind = IAM_FLOAT64, .index = IAM_INDEX_HASH, .spare = s->spare};
        iam_map *map;
        EXPECT(iam_map_create(&options, &map) == IAM_OK);
        EXPECT(iam_map_update_many(map, keys, SPARE_KEYS, rows, sizeof *rows, IAM_SET) == IAM_OK);
        s->maps[place] = map;
        uint32_t number;
        EXPECT(iam_map_find(map, keys[7], &number) != NULL);
        EXPECT(iam_view_take(map, number, &s->views[place]) == IAM_OK);
        atomic_fetch_or(&s->baton, 1 << place);
    }
    free(keys);
    free(rows);
    end_of_act(self);
}

static void destroy_maps(actor *self)
{
    story *s = self->story;
    for (int turn = 0; turn < 8; turn++) {
        int place = (int)(self->number - 2) * 8 + turn;
        while ((atomic_load(&s->baton) & 1 << place) == 0)
            sched_yield();
        iam_map *map = s->maps[place];
        double row = *(const double *)iam_map_row(map, s->views[place].number);
        if (turn % 2 == 0)
            iam_view_release(&s->views[place]);
        iam_map_destroy(map);
        EXPECT(row == 700 + place);
        if (turn % 2 == 1)
            iam_view_release(&s->views[place]); /* the storage goes with it */
    }
    end_of_act(self);
}

static void test_maps_go_on_other_threads(void)
{
    story s = {.spare = iam_spare_create()};
    play(&s, 4, 4, (void (*const[])(actor *)){make_maps, make_maps, destroy_maps, destroy_maps});
    iam_spare_destroy(s.spare);
}

static void release_share(actor *self)
{
    for (uint64_t i = self->number; i < KEYS; i += 3)
        iam_view_release(&self->story->views[i]);
    end_of_act(self);
}

static void destroy_map(actor *self)
{
    iam_map_destroy(self->story->map);
    end_of_act(self);
}

static void test_a_map_goes_beside_its_views(void)
{
    for (int which = 0; which < 3; which++) {
        story s = {0};
        s.map = new_map(&s, INDEXES[which]);
        set_all(s.map, 0, KEYS);
        for (int64_t key = 0; key < KEYS; key++) {
            uint32_t number;
            EXPECT(iam_map_find(s.map, key, &number) != NULL);
            EXPECT(iam_view_take(s.map, number, &s.views[key]) == IAM_OK);
        }
        play(&s, 4, 4, (void (*const[])(actor *)){release_share, release_share, release_share, destroy_map});
        EXPECT(atomic_load(&s.memory.alive) == 0);
    }
}

/* ---- Images
 * ---------------------------------------------------------------------------------------------------------- */

static iam_mapping save(const iam_map *map)
{
    const iam_about about = {.axis_count = 1, .axes = {ROW}};
    iam_save *saving = NULL;
    bool ready = false;
    take_lock(map, false); /* from the first byte to the last */
    EXPECT(iam_save_begin(map, 777, &about, &saving) == IAM_OK);
    while (!ready)
        EXPECT(iam_save_prepare(saving, &ready) == IAM_OK);
    uint64_t byte_count = iam_save_bytes(saving), done = 0;
    char *bytes = malloc(byte_count + IAM_SAVE_ROOM_LEAST);
    for (size_t more; (more = iam_save_next(saving, bytes + done, IAM_SAVE_ROOM_LEAST)) != 0;)
        done += more;
    EXPECT(done == byte_count);
    iam_save_end(saving);
    iam_map_unlock(map, false);
    iam_mapping mapping = image_copy(bytes, byte_count);
    free(bytes);
    return mapping;
}

static iam_map *open_image(const iam_mapping *mapping)
{
    char reason[256] = "";
    iam_about about;
    iam_map *map = NULL;
    EXPECT(iam_image_open(mapping, 99, &map, &about, reason, sizeof reason) == IAM_OK);
    EXPECT(iam_image_verify(map, reason, sizeof reason) == IAM_OK);
    return map;
}

/* No key is removed, so every image has all that the one before had. */
static void save_images(actor *self)
{
    uint64_t before = 0;
    for (int turn = 0; turn < 6; turn++) {
        iam_mapping mapping = save(self->story->map);
        iam_map *map = open_image(&mapping);
        EXPECT(iam_map_count(map) >= before);
        before = iam_map_count(map);
        for (int64_t key = 0; key < KEYS; key += 50)
            EXPECT(!is_torn(iam_map_find(map, key, NULL)));
        iam_map_destroy(map);
    }
    end_of_act(self);
}

static void add_keys(actor *self)
{
    iam_map *map = self->story->map;
    for (int64_t key = KEYS; goes_on(self) && key < 10 * KEYS; key++) {
        double row[ROW];
        fill_row(row, (double)key);
        take_lock(map, true);
        EXPECT(iam_map_put(map, key, row) == IAM_OK && iam_map_put(map, key % KEYS, row) == IAM_OK);
        iam_map_unlock(map, true);
    }
}

static void test_images_are_saved_beside_readers_and_writers(void)
{
    for (int which = 0; which < 3; which++) {
        story s = {0};
        s.map = new_map(&s, INDEXES[which]);
        set_all(s.map, 0, KEYS);
        play(&s, 1, 3, (void (*const[])(actor *)){save_images, add_keys, read_batches});
        end_story(&s);
    }
}

/* An opened map is read by all and closed by one (clear, as close does); its bytes go with the last view, wherever. */
static void close_image(actor *self)
{
    iam_map *map = self->story->map;
    for (int turn = 0; turn < 20; turn++)
        sched_yield();
    take_lock(map, true);
    EXPECT(iam_map_clear(map) == IAM_OK);
    iam_map_unlock(map, true);
    end_of_act(self);
}

static void test_an_opened_map_is_closed_beside_readers(void)
{
    for (int turn = 0; turn < 10; turn++) {
        story s = {0};
        iam_map *source = new_map(&s, turn % 2 ? IAM_INDEX_HASH : IAM_INDEX_AUTO);
        set_all(source, 0, KEYS);
        iam_mapping mapping = save(source);
        iam_map_destroy(source);
        int before = image_releases;
        s.map = open_image(&mapping);
        play(&s, 1, 4, (void (*const[])(actor *)){close_image, hold_views, hold_views, read_batches});
        EXPECT(image_releases == before + 1); /* no view is left */
        iam_map_destroy(s.map);
        EXPECT(image_releases == before + 1);
    }
}

/* ---- As under Python's GIL
 * ------------------------------------------------------------------------------------------- */

/* With a GIL the binding takes no lock for one key: it looks at it, GIL in hand, and counts views by plain instructions
 * (serial_views). A batch takes the lock GIL in hand, lets the GIL go, and gives the lock back before it asks for the
 * GIL again. Nobody waits for a map's lock with the GIL in hand. */
static void take_gil(story *s)
{
    EXPECT(pthread_mutex_lock(&s->gil) == 0);
}

static void drop_gil(story *s)
{
    EXPECT(pthread_mutex_unlock(&s->gil) == 0);
}

/* To be called, and returns, with the GIL. */
static void lock_with_gil(story *s, bool exclusive, bool look)
{
    for (;;) {
        iam_status status =
            look ? iam_map_look(s->map, exclusive, FORK_COUNT) : iam_map_try_lock(s->map, exclusive, FORK_COUNT);
        if (status == IAM_OK)
            return;
        drop_gil(s);
        iam_map_wait(s->map, exclusive, 50);
        take_gil(s);
    }
}

static void batches_without_gil(actor *self)
{
    story *s = self->story;
    for (int turn = 0; turn < 200; turn++) {
        int64_t keys[BATCH];
        double rows[BATCH][ROW], row[ROW], zero[ROW] = {0};
        uint8_t flags[BATCH];
        iam_missing missing;
        bool exclusive = turn % 4 != 3;
        choose_keys(self, keys, KEYS);
        fill_row(row, turn);
        take_gil(s);
        lock_with_gil(s, exclusive, false);
        drop_gil(s);
        if (turn % 4 == 0)
            EXPECT(iam_map_update_many(s->map, keys, BATCH, row, 0, IAM_SET) == IAM_OK);
        else if (turn % 4 == 1)
            iam_map_delete_many(s->map, keys, BATCH / 2, flags);
        else if (turn % 4 == 2 && turn % 12 == 2)
            EXPECT(iam_map_clear(s->map) == IAM_OK);
        else
            EXPECT(iam_map_get_many(s->map, keys, BATCH, rows, zero, 0, NULL, &missing) == IAM_OK);
        iam_map_unlock(s->map, exclusive);
        take_gil(s);
        for (int i = 0; turn % 4 == 3 && i < BATCH; i++)
            EXPECT(!is_torn(rows[i]));
        drop_gil(s);
    }
    end_of_act(self);
}

static void keys_with_gil(actor *self)
{
    story *s = self->story;
    iam_view views[BATCH];
    int count = 0;
    do {
        int64_t key = (int64_t)(harness_random(&self->seed) % KEYS);
        double row[ROW];
        uint32_t number;
        fill_row(row, (double)key);
        take_gil(s);
        switch (harness_random(&self->seed) % 6) {
        case 0:
            lock_with_gil(s, true, true);
            EXPECT(iam_map_put(s->map, key, row) == IAM_OK);
            break;
        case 1:
            lock_with_gil(s, true, true);
            iam_map_remove(s->map, key);
            break;
        case 2: /* any time: no lock is looked at */
            if (count > 0)
                iam_view_release(&views[--count]);
            break;
        default:
            lock_with_gil(s, false, true);
            const double *found = iam_map_find(s->map, key, &number);
            EXPECT(found == NULL || !is_torn(found));
            if (found != NULL && count < BATCH)
                EXPECT(iam_view_take(s->map, number, &views[count++]) == IAM_OK);
            break;
        }
        drop_gil(s);
    } while (goes_on(self));
    take_gil(s);
    while (count > 0)
        iam_view_release(&views[--count]);
    drop_gil(s);
}

static void test_as_under_a_gil(void)
{
    for (int which = 0; which < 3; which++) {
        story s = {.gil = PTHREAD_MUTEX_INITIALIZER};
        iam_options options = {.row_items = ROW, .kind = IAM_FLOAT64, .index = INDEXES[which], .seed = 5};
        options.pipeline = IAM_ON;
        options.serial_views = true;
        options.allocator = failing_allocator(&s.memory);
        EXPECT(iam_map_create(&options, &s.map) == IAM_OK);
        play(&s, 2, 5,
             (void (*const[])(actor *)){batches_without_gil, batches_without_gil, keys_with_gil, keys_with_gil,
                                        keys_with_gil});
        iam_stats stats;
        iam_map_stats(s.map, &stats);
        EXPECT(stats.views == 0 && stats.rows_held == 0);
        end_story(&s);
    }
}

int main(void)
{
    RUN(test_readers_beside_writers);
    RUN(test_growth_beside_scans);
    RUN(test_views_beside_clear);
    RUN(test_views_are_released_by_others);
    RUN(test_blocks_are_released_by_others);
    RUN(test_merged_into_each_other);
    RUN(test_maps_go_on_other_threads);
    RUN(test_a_map_goes_beside_its_views);
    RUN(test_images_are_saved_beside_readers_and_writers);
    RUN(test_an_opened_map_is_closed_beside_readers);
    RUN(test_as_under_a_gil);
    return harness_end();
}
