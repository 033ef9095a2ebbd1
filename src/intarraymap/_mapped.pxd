# _mapped.pxd: the system's side of files: writing to a descriptor, mapping a file, and what happens when a mapped file
# is truncated by somebody else. Seen by _image.pyx alone.
#
# A page of a mapping beyond the end of its file raises SIGBUS. The guard knows our mappings: on a fault inside one it
# puts pages of zeros from there to the mapping's end and marks it torn, so that the reader goes on, finds keys missing
# or rows of zeros, and a batch then says so (one key: it does not). Any other SIGBUS goes to whoever handled it before.
# The guard is put in place when the first file is opened, and again whenever it is found to have been replaced.
from libc.stddef cimport size_t
from libc.stdint cimport uint64_t

from intarraymap._core cimport iam_mapping


cdef extern from * nogil:
    """
    #include <errno.h>
    #include <signal.h>
    #include <stdatomic.h>
    #include <stdint.h>
    #include <stdlib.h>
    #include <string.h>
    #include <sys/mman.h>
    #include <unistd.h>

    #define MAPPED_PAGE ((uintptr_t)4096)
    /* A file lies in the page cache in pieces as large as those it was written in. If one is a huge page, in the file
     * and in memory alike, the system maps it as one: lookups in a mapped map then take as long as in memory (twice as
     * long otherwise, waiting for address translation). */
    #define MAPPED_HUGE ((size_t)2 << 20)
    /* Mappings that can be guarded at a time; the ones beyond are as unguarded as any mmap. */
    #define GUARD_PLACES 4096

    static struct {
        _Atomic uintptr_t begin, end; /* begin = 0: free; end = 0: being filled in */
        int torn;
        int protection;
    } guard_places[GUARD_PLACES];
    static _Atomic int guard_top; /* places ever used */
    static struct sigaction guard_before;
    static atomic_flag guard_busy = ATOMIC_FLAG_INIT;

    static void guard_pass_on(int signal_number, siginfo_t *info, void *context)
    {
        if (guard_before.sa_flags & SA_SIGINFO)
            guard_before.sa_sigaction(signal_number, info, context);
        else if (guard_before.sa_handler != SIG_DFL && guard_before.sa_handler != SIG_IGN)
            guard_before.sa_handler(signal_number);
        else
            signal(signal_number, SIG_DFL); /* the access is repeated and ends the process as it would have */
    }

    static void guard_handle(int signal_number, siginfo_t *info, void *context)
    {
        uintptr_t address = (uintptr_t)info->si_addr;
        int before = errno;
        for (int i = 0; i < atomic_load(&guard_top); i++) {
            uintptr_t begin = atomic_load(&guard_places[i].begin), end = atomic_load(&guard_places[i].end);
            if (begin == 0 || address < begin || address >= end)
                continue;
            uintptr_t page = address & ~(MAPPED_PAGE - 1);
            __atomic_store_n(&guard_places[i].torn, 1, __ATOMIC_RELEASE);
            if (mmap((void *)page, end - page, guard_places[i].protection,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0) == MAP_FAILED)
                break;
            errno = before;
            return;
        }
        errno = before;
        guard_pass_on(signal_number, info, context);
    }

    /* Somebody else's handler in our place is kept and called by ours; one that calls ours in turn is left alone. */
    static void guard_install(void)
    {
        struct sigaction now, ours;
        while (atomic_flag_test_and_set(&guard_busy))
            ;
        if (sigaction(SIGBUS, NULL, &now) == 0 && !((now.sa_flags & SA_SIGINFO) && now.sa_sigaction == guard_handle)) {
            memset(&ours, 0, sizeof ours);
            ours.sa_sigaction = guard_handle;
            ours.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
            sigemptyset(&ours.sa_mask);
            guard_before = now;
            sigaction(SIGBUS, &ours, NULL);
        }
        atomic_flag_clear(&guard_busy);
    }

    static int guard_add(void *bytes, size_t byte_count, int protection)
    {
        guard_install();
        for (int i = 0; i < GUARD_PLACES; i++) {
            uintptr_t expected = 0;
            if (!atomic_compare_exchange_strong(&guard_places[i].begin, &expected, (uintptr_t)bytes))
                continue;
            __atomic_store_n(&guard_places[i].torn, 0, __ATOMIC_RELEASE);
            guard_places[i].protection = protection;
            atomic_store(&guard_places[i].end, ((uintptr_t)bytes + byte_count + MAPPED_PAGE - 1) & ~(MAPPED_PAGE - 1));
            for (int top = atomic_load(&guard_top);
                 top <= i && !atomic_compare_exchange_weak(&guard_top, &top, i + 1);)
                ;
            return i;
        }
        return -1;
    }

    /* state = place in the guard + 1; 0 = not guarded. Called when the last view is gone, by whatever thread. */
    static void mapped_release(void *state, void *bytes, uint64_t byte_count)
    {
        if (state != NULL) {
            /* First, so that a file which another thread maps to these addresses next is not taken for this one. */
            intptr_t place = (intptr_t)state - 1;
            atomic_store(&guard_places[place].end, 0);
            atomic_store(&guard_places[place].begin, 0);
        }
        munmap(bytes, byte_count);
    }

    /* A flag that is good for as long as the mapping is; NULL: not guarded. */
    static const int *mapped_torn(const iam_mapping *mapping)
    {
        return mapping->state == NULL ? NULL : &guard_places[(intptr_t)mapping->state - 1].torn;
    }

    /* 0 or errno. */
    static int mapped_open(int descriptor, uint64_t byte_count, bool writable, iam_mapping *mapping)
    {
        int protection = PROT_READ | (writable ? PROT_WRITE : 0);
        if (byte_count > SIZE_MAX / 4)
            return EFBIG;
        size_t padded = (byte_count + MAPPED_PAGE - 1) / MAPPED_PAGE * MAPPED_PAGE + MAPPED_HUGE;
        char *range = mmap(NULL, padded, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (range == MAP_FAILED)
            return errno;
        size_t before = (size_t)(-(uintptr_t)range % MAPPED_HUGE);
        void *bytes = mmap(range + before, byte_count, protection, (writable ? MAP_PRIVATE : MAP_SHARED) | MAP_FIXED,
                           descriptor, 0);
        if (bytes == MAP_FAILED) {
            int error = errno;
            munmap(range, padded);
            return error;
        }
        if (before != 0)
            munmap(range, before);
        if (before != MAPPED_HUGE)
            munmap(range + padded - (MAPPED_HUGE - before), MAPPED_HUGE - before);
        mapping->bytes = bytes;
        mapping->byte_count = byte_count;
        mapping->state = (void *)(intptr_t)(guard_add(bytes, byte_count, protection) + 1);
        mapping->release = mapped_release;
        return 0;
    }

    /* 0 or errno. */
    static int mapped_write(int descriptor, const char *bytes, size_t byte_count)
    {
        while (byte_count > 0) {
            ssize_t written = write(descriptor, bytes, byte_count);
            if (written < 0 && errno != EINTR)
                return errno;
            if (written > 0) {
                bytes += written;
                byte_count -= (size_t)written;
            }
        }
        return 0;
    }

    static inline uint64_t mapped_load(const uint64_t *counter) { return __atomic_load_n(counter, __ATOMIC_RELAXED); }
    static inline void mapped_store(uint64_t *counter, uint64_t count)
    {
        __atomic_store_n(counter, count, __ATOMIC_RELAXED);
    }
    """
    void mapped_release(void *state, void *bytes, uint64_t byte_count)
    const int *mapped_torn(const iam_mapping *mapping)
    int mapped_open(int descriptor, uint64_t byte_count, bint writable, iam_mapping *mapping)
    int mapped_write(int descriptor, const char *bytes, size_t byte_count)
    uint64_t mapped_load(const uint64_t *counter)
    void mapped_store(uint64_t *counter, uint64_t count)
