# _gate.pxd: forks. Process-wide state (as _mapped.pxd and _result.pxd have), seen by _owner.pyx alone.
#
# fork_count   changes in the child of every fork, a raw C fork included: a lock that was held across it is then seen
#              as IAM_FORKED and never waited for.
# gate         os.fork closes it and waits until no batch runs without the GIL, so that no map is left half written in
#              the child. Entering counts first and looks second, closing marks first and counts second: with
#              sequentially consistent atomics one of the two always sees the other. The thread that closed it goes
#              through: it forks when its hooks have run, those of other packages among them, and nobody else would
#              open the gate for a batch in one of them.
from libc.stdint cimport uint32_t


cdef extern from * nogil:
    """
    #include <pthread.h>
    #include <stdatomic.h>
    #include <stdbool.h>
    #include <stdint.h>
    #include <time.h>

    static uint32_t gate_forks;
    static _Atomic int gate_closed;
    static _Atomic int gate_running;
    static __thread int gate_mine; /* how often this thread has closed it */

    static void gate_in_child(void)
    {
        __atomic_fetch_add(&gate_forks, 1, __ATOMIC_RELAXED);
        atomic_store(&gate_closed, 0);
        atomic_store(&gate_running, 0); /* the threads that ran them are not in this process */
        gate_mine = 0;
    }
    static int gate_install(void)
    {
        static atomic_flag installed = ATOMIC_FLAG_INIT;
        return atomic_flag_test_and_set(&installed) ? 0 : pthread_atfork(NULL, NULL, gate_in_child);
    }
    static inline const uint32_t *gate_fork_counter(void) { return &gate_forks; }
    static inline void gate_leave(void) { atomic_fetch_sub(&gate_running, 1); }
    static inline bool gate_enter(void)
    {
        atomic_fetch_add(&gate_running, 1);
        if (atomic_load(&gate_closed) == 0 || gate_mine > 0)
            return true;
        gate_leave();
        return false;
    }
    static inline void gate_close(void)
    {
        atomic_fetch_add(&gate_closed, 1);
        gate_mine++;
    }
    static inline void gate_open(void)
    {
        if (gate_mine > 0) { /* in the child of a fork it is not */
            atomic_fetch_sub(&gate_closed, 1);
            gate_mine--;
        }
    }
    static inline bool gate_is_quiet(void) { return atomic_load(&gate_running) == 0; }
    static inline void gate_nap(void)
    {
        const struct timespec nap = {0, 200 * 1000}; /* 0.2 ms: a fork costs about as much */
        nanosleep(&nap, NULL);
    }
    """
    int gate_install()
    const uint32_t *gate_fork_counter()
    bint gate_enter()
    void gate_leave()
    void gate_close()
    void gate_open()
    bint gate_is_quiet()
    void gate_nap()
