/* test_lock.c: the reader-writer lock: who gets it, who waits, what a fork leaves behind; and a whole map under it. */
#define _POSIX_C_SOURCE 200809L
#include "harness.h"

#include "map.h"

#include <pthread.h>
#include <sched.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { FORK_COUNT = 7 };

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static void sleep_milliseconds(long milliseconds)
{
    nanosleep(&(struct timespec){milliseconds / 1000, milliseconds % 1000 * 1000000}, NULL);
}

static void acquire(lock *gate, bool exclusive)
{
    while (lock_try(gate, exclusive, FORK_COUNT) != IAM_OK)
        lock_wait(gate, exclusive, 1000);
}

static void expect_valid(const lock *gate)
{
    char reason[100];
    EXPECT(lock_validate(gate, reason, sizeof reason));
}

/* ---- One thread -------------------------------------------------------------------------------------------------- */

static void test_shared_and_exclusive(void)
{
    lock gate = {0};
    EXPECT(lock_try(&gate, true, FORK_COUNT) == IAM_OK);
    expect_valid(&gate);
    EXPECT(lock_try(&gate, true, FORK_COUNT) == IAM_LOCKED);
    EXPECT(lock_try(&gate, false, FORK_COUNT) == IAM_LOCKED);
    lock_release(&gate, true);
    for (int reader = 0; reader < 100; reader++)
        EXPECT(lock_try(&gate, false, FORK_COUNT) == IAM_OK);
    expect_valid(&gate);
    for (int reader = 0; reader < 100; reader++) {
        EXPECT(lock_try(&gate, true, FORK_COUNT) == IAM_LOCKED);
        lock_release(&gate, false);
    }
    EXPECT(lock_try(&gate, true, FORK_COUNT) == IAM_OK);
    lock_release(&gate, true);
    expect_valid(&gate);
}

/* Looking answers as trying would, and takes nothing. */
static void test_looking(void)
{
    lock gate = {0};
    EXPECT(lock_look(&gate, true, FORK_COUNT) == IAM_OK && lock_look(&gate, false, FORK_COUNT) == IAM_OK);
    EXPECT(atomic_load(&gate.word) == 0);
    EXPECT(lock_try(&gate, false, FORK_COUNT) == IAM_OK);
    uint64_t held = atomic_load(&gate.word);
    EXPECT(lock_look(&gate, true, FORK_COUNT) == IAM_LOCKED && lock_look(&gate, false, FORK_COUNT) == IAM_OK);
    EXPECT(lock_look(&gate, false, FORK_COUNT + 1) == IAM_FORKED);
    EXPECT(atomic_load(&gate.word) == held);
    lock_release(&gate, false);
    EXPECT(lock_try(&gate, true, FORK_COUNT) == IAM_OK);
    EXPECT(lock_look(&gate, true, FORK_COUNT) == IAM_LOCKED && lock_look(&gate, false, FORK_COUNT) == IAM_LOCKED);
    EXPECT(lock_look(&gate, true, FORK_COUNT + 1) == IAM_FORKED);
    lock_release(&gate, true);
    EXPECT(lock_look(&gate, true, FORK_COUNT + 1) == IAM_OK);
}

/* A lock held under another fork count belongs to a thread that is not there. */
static void test_fork_count(void)
{
    const uint32_t others[] = {0, FORK_COUNT + 1, UINT32_MAX};
    for (int exclusive = 0; exclusive < 2; exclusive++)
        for (int i = 0; i < 3; i++) {
            lock gate = {0};
            EXPECT(lock_try(&gate, exclusive, FORK_COUNT) == IAM_OK);
            EXPECT(lock_try(&gate, true, others[i]) == IAM_FORKED);
            EXPECT(lock_try(&gate, false, others[i]) == IAM_FORKED);
            lock_release(&gate, exclusive);
            EXPECT(lock_try(&gate, true, others[i]) == IAM_OK); /* nobody held it: it goes on under the new count */
            EXPECT(lock_try(&gate, true, others[i]) == IAM_LOCKED);
            lock_release(&gate, true);
        }
}

/* Threads that waited when the process was forked are not in the child: a writer among them kept readers apart there
 * for ever, and every release called the system. */
static void test_who_waited_before_a_fork(void)
{
    for (int exclusive = 0; exclusive < 2; exclusive++) {
        lock gate = {.word = (uint64_t)FORK_COUNT << 32, .waiting = 2, .writers_waiting = 1};
        EXPECT(lock_try(&gate, false, FORK_COUNT) == IAM_OK); /* the same process: they are there */
        EXPECT(lock_try(&gate, false, FORK_COUNT) == IAM_LOCKED);
        lock_release(&gate, false);
        EXPECT(lock_try(&gate, exclusive != 0, FORK_COUNT + 1) == IAM_OK);
        EXPECT(gate.waiting == 0 && gate.writers_waiting == 0);
        expect_valid(&gate);
        const lock between = {.word = (uint64_t)FORK_COUNT << 32 | UINT32_MAX}; /* while they are forgotten */
        expect_valid(&between);
        EXPECT(lock_try(&gate, false, FORK_COUNT + 1) == (exclusive ? IAM_LOCKED : IAM_OK));
        EXPECT(lock_try(&gate, false, FORK_COUNT) == IAM_FORKED);
    }
}

/* The same with a real fork: exit code of the child that asks for a lock which its parent held. */
static int ask_in_child(lock *gate)
{
    fflush(stdout);
    pid_t child = fork();
    if (child == 0)
        _exit((int)lock_try(gate, false, FORK_COUNT + 1));
    int status = -1;
    EXPECT(child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void test_fork(void)
{
    static lock gate;
    EXPECT(ask_in_child(&gate) == IAM_OK);
    EXPECT(lock_try(&gate, true, FORK_COUNT) == IAM_OK);
    EXPECT(ask_in_child(&gate) == IAM_FORKED);
    lock_release(&gate, true);
    EXPECT(ask_in_child(&gate) == IAM_OK);
}

static void test_wait_returns_when_free_or_over(void)
{
    lock gate = {0};
    double start = seconds();
    lock_wait(&gate, true, 10000);
    lock_wait(&gate, false, 10000);
    EXPECT(seconds() - start < 5);
    EXPECT(lock_try(&gate, true, FORK_COUNT) == IAM_OK);
    start = seconds();
    for (int wait = 0; wait < 3; wait++)
        lock_wait(&gate, wait % 2, 20);
    EXPECT(seconds() - start < 5);
#ifdef __linux__ /* elsewhere it is a short sleep */
    EXPECT(seconds() - start > 0.03);
#endif
    EXPECT(atomic_load(&gate.waiting) == 0 && atomic_load(&gate.writers_waiting) == 0);
    lock_release(&gate, true);
}

/* ---- Several ----------------------------------------------------------------------------------------------------- */

typedef struct worker {
    pthread_t thread;
    lock *gate;
    uint64_t *counters; /* two, changed together under the exclusive lock */
    _Atomic bool *stop;
    uint64_t turns, torn;
} worker;

static void start(worker *w, void *(*run)(void *))
{
    EXPECT(pthread_create(&w->thread, NULL, run, w) == 0);
}

static void *wait_for_writing(void *state)
{
    worker *self = state;
    double begin = seconds();
    lock_wait(self->gate, true, 20000);
    self->turns = seconds() - begin < 10;
    return NULL;
}

/* A waiting writer turns new readers away, and wakes up when the last reader goes. */
static void test_writer_goes_before_new_readers(void)
{
    lock gate = {0};
    EXPECT(lock_try(&gate, false, FORK_COUNT) == IAM_OK);
    EXPECT(lock_try(&gate, false, FORK_COUNT) == IAM_OK);
    worker writer = {.gate = &gate};
    start(&writer, wait_for_writing);
    while (atomic_load(&gate.writers_waiting) == 0)
        sleep_milliseconds(1);
    EXPECT(lock_try(&gate, false, FORK_COUNT) == IAM_LOCKED);
    lock_release(&gate, false);
    EXPECT(lock_try(&gate, false, FORK_COUNT) == IAM_LOCKED);
    sleep_milliseconds(20); /* most likely it sleeps by now */
    lock_release(&gate, false);
    pthread_join(writer.thread, NULL);
    EXPECT(writer.turns == 1);
    EXPECT(lock_try(&gate, false, FORK_COUNT) == IAM_OK);
    EXPECT(lock_try(&gate, false, FORK_COUNT) == IAM_OK); /* it waits no more */
}

enum { THREADS = 4, TURNS = 20000 };

enum { COMERS = 2 };

typedef struct latecomer {
    pthread_t thread;
    _Atomic int *arrived;
    lock *gates;
    int gate_count;
    uint8_t *got; /* for each gate */
} latecomer;

static void *come_after_a_fork(void *state)
{
    latecomer *self = state;
    for (int i = 0; i < self->gate_count; i++) {
        /* Both within an instant, which a barrier of the system's is too slow for. */
        atomic_fetch_add(self->arrived, 1);
        for (int spin = 1; atomic_load(self->arrived) < COMERS * (i + 1); spin++)
            if (spin % 1000 == 0)
                sched_yield();
        self->got[i] = lock_try(&self->gates[i], true, FORK_COUNT + 1) == IAM_OK;
    }
    return NULL;
}

/* Threads of a child that ask for a lock from before the fork at once: one of them gets it. */
static void test_one_takes_over_after_a_fork(void)
{
    enum { GATES = 20000 };
    static lock gates[GATES];
    static uint8_t got[COMERS][GATES];
    _Atomic int arrived = 0;
    for (int i = 0; i < GATES; i++)
        gates[i] = (lock){.word = (uint64_t)FORK_COUNT << 32, .waiting = 1};
    latecomer comers[COMERS];
    for (int i = 0; i < COMERS; i++) {
        comers[i] = (latecomer){.arrived = &arrived, .gates = gates, .gate_count = GATES, .got = got[i]};
        EXPECT(pthread_create(&comers[i].thread, NULL, come_after_a_fork, &comers[i]) == 0);
    }
    for (int i = 0; i < COMERS; i++)
        pthread_join(comers[i].thread, NULL);
    for (int i = 0; i < GATES; i++) {
        EXPECT(got[0][i] + got[1][i] == 1);
        EXPECT(gates[i].waiting == 0);
        lock_release(&gates[i], true);
        expect_valid(&gates[i]);
    }
}

static void *count_up(void *state)
{
    worker *self = state;
    for (int turn = 0; turn < TURNS; turn++) {
        acquire(self->gate, true);
        self->counters[0]++;
        self->counters[1]++;
        lock_release(self->gate, true);
    }
    return NULL;
}

static void *compare_counters(void *state)
{
    worker *self = state;
    do { /* at least once, however late the thread comes to run */
        acquire(self->gate, false);
        self->torn += self->counters[0] != self->counters[1];
        self->turns++;
        lock_release(self->gate, false);
    } while (!atomic_load(self->stop));
    return NULL;
}

static void test_no_update_is_lost(void)
{
    static lock gate;
    static uint64_t counters[2];
    static _Atomic bool stop;
    worker writers[THREADS], readers[2];
    for (int i = 0; i < 2; i++) {
        readers[i] = (worker){.gate = &gate, .counters = counters, .stop = &stop};
        start(&readers[i], compare_counters);
    }
    for (int i = 0; i < THREADS; i++) {
        writers[i] = (worker){.gate = &gate, .counters = counters};
        start(&writers[i], count_up);
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(writers[i].thread, NULL);
    atomic_store(&stop, true);
    for (int i = 0; i < 2; i++) {
        pthread_join(readers[i].thread, NULL);
        EXPECT(readers[i].torn == 0 && readers[i].turns > 0);
    }
    EXPECT(counters[0] == THREADS * TURNS && counters[1] == THREADS * TURNS);
    EXPECT((atomic_load(&gate.word) & UINT32_MAX) == 0 && atomic_load(&gate.waiting) == 0);
}

static void *read_for_long(void *state)
{
    worker *self = state;
    do {
        acquire(self->gate, false);
        sleep_milliseconds(1); /* so that readers overlap without end */
        self->turns++;
        lock_release(self->gate, false);
    } while (!atomic_load(self->stop));
    return NULL;
}

static void test_writers_are_not_starved(void)
{
    static lock gate;
    static _Atomic bool stop;
    worker readers[THREADS];
    for (int i = 0; i < THREADS; i++) {
        readers[i] = (worker){.gate = &gate, .stop = &stop};
        start(&readers[i], read_for_long);
    }
    sleep_milliseconds(10);
    double begin = seconds();
    for (int turn = 0; turn < 50; turn++) {
        acquire(&gate, true);
        expect_valid(&gate);
        lock_release(&gate, true);
    }
    EXPECT(seconds() - begin < 20);
    atomic_store(&stop, true);
    for (int i = 0; i < THREADS; i++) {
        pthread_join(readers[i].thread, NULL);
        EXPECT(readers[i].turns > 0);
    }
}

/* ---- A map under its lock ---------------------------------------------------------------------------------------- */

enum { KEYS = 3000, BATCH = 200, ROUNDS = 60, ROW = 4 };

typedef struct visitor {
    pthread_t thread;
    iam_map *map;
    _Atomic bool *stop;
    uint64_t seed, added, torn, seen;
} visitor;

static void lock_map(const iam_map *map, bool exclusive)
{
    while (iam_map_try_lock(map, exclusive, FORK_COUNT) != IAM_OK)
        iam_map_wait(map, exclusive, 1000);
}

/* Adds 1 to all items of many rows, inserting them as it goes; deletes nothing, so that every addition can be counted.
 */
static void *add_rows(void *state)
{
    visitor *self = state;
    for (int round = 0; round < ROUNDS; round++) {
        int64_t keys[BATCH];
        const double ones[ROW] = {1, 1, 1, 1};
        for (int i = 0; i < BATCH; i++)
            keys[i] = (int64_t)(harness_random(&self->seed) % KEYS) << (round % 3 == 0 ? 30 : 0); /* leaves direct */
        lock_map(self->map, true);
        if (iam_map_update_many(self->map, keys, BATCH, ones, 0, IAM_ADD) == IAM_OK)
            self->added += BATCH;
        iam_map_unlock(self->map, true);
    }
    return NULL;
}

/* Reads rows in batches, holds views of them beyond the lock, and releases those with no lock at all. */
static void *read_rows(void *state)
{
    visitor *self = state;
    do {
        int64_t keys[BATCH];
        double rows[BATCH][ROW];
        const double missing[ROW] = {0};
        iam_view views[BATCH];
        int view_count = 0;
        for (int i = 0; i < BATCH; i++)
            keys[i] = (int64_t)(harness_random(&self->seed) % KEYS);
        lock_map(self->map, false);
        iam_map_get_many(self->map, keys, BATCH, rows, missing, 0, NULL, NULL);
        for (int i = 0; i < BATCH; i += 10) {
            uint32_t number;
            if (iam_map_find(self->map, keys[i], &number) != NULL)
                view_count += iam_view_take(self->map, number, &views[view_count]) == IAM_OK;
        }
        iam_map_unlock(self->map, false);
        for (int i = 0; i < BATCH; i++) {
            self->torn += rows[i][0] != rows[i][1] || rows[i][0] != rows[i][2] || rows[i][0] != rows[i][3];
            self->seen++;
        }
        while (view_count > 0)
            iam_view_release(&views[--view_count]);
    } while (!atomic_load(self->stop));
    return NULL;
}

static void test_a_map_between_threads(void)
{
    iam_options options = {.row_items = ROW, .kind = IAM_FLOAT64, .seed = 3};
    failing memory;
    options.allocator = failing_allocator(&memory);
    iam_map *map;
    EXPECT(iam_map_create(&options, &map) == IAM_OK);
    static _Atomic bool stop;
    visitor writers[3], readers[2];
    for (uint64_t i = 0; i < 2; i++) {
        readers[i] = (visitor){.map = map, .stop = &stop, .seed = i};
        EXPECT(pthread_create(&readers[i].thread, NULL, read_rows, &readers[i]) == 0);
    }
    for (uint64_t i = 0; i < 3; i++) {
        writers[i] = (visitor){.map = map, .seed = 100 + i};
        EXPECT(pthread_create(&writers[i].thread, NULL, add_rows, &writers[i]) == 0);
    }
    uint64_t added = 0;
    for (int i = 0; i < 3; i++) {
        pthread_join(writers[i].thread, NULL);
        added += writers[i].added;
    }
    atomic_store(&stop, true);
    for (int i = 0; i < 2; i++) {
        pthread_join(readers[i].thread, NULL);
        EXPECT(readers[i].torn == 0 && readers[i].seen > 0);
    }
    EXPECT(added == 3 * ROUNDS * BATCH);
    double total = 0;
    uint64_t position = 0;
    uint32_t number;
    while (iam_map_walk(map, false, &position, 1, NULL, &number) == 1)
        total += *(const double *)iam_map_row(map, number);
    EXPECT(total == (double)added);
    harness_validate(map);
    iam_map_destroy(map);
    EXPECT(atomic_load(&memory.alive) == 0);
}

int main(void)
{
    RUN(test_shared_and_exclusive);
    RUN(test_looking);
    RUN(test_fork_count);
    RUN(test_who_waited_before_a_fork);
    RUN(test_fork);
    RUN(test_wait_returns_when_free_or_over);
    RUN(test_writer_goes_before_new_readers);
    RUN(test_one_takes_over_after_a_fork);
    RUN(test_no_update_is_lost);
    RUN(test_writers_are_not_starved);
    RUN(test_a_map_between_threads);
    return harness_end();
}
