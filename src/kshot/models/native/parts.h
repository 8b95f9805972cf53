/* Work in parts, one for each thread; and loops over elements. */

#ifndef KSHOT_PARTS_H
#define KSHOT_PARTS_H

#include <dlfcn.h>
#include <pthread.h>
#include <stdint.h>

/* A loop over elements of arrays that do not overlap, but where they are the same. */
#if defined(__clang__)
#define EACH(j, n) _Pragma("clang loop vectorize(assume_safety)") for (int64_t j = 0; j < (n); j++)
#else
#define EACH(j, n) _Pragma("GCC ivdep") for (int64_t j = 0; j < (n); j++)
#endif

enum { MOST_THREADS = 64 };

typedef void (*part_body)(const void *work, int64_t from, int64_t to);

typedef struct {
    const void *work;
    part_body run;
    int64_t from, to;
} part;

static inline void *run_part(void *argument) {
    const part *own = argument;
    own->run(own->work, own->from, own->to);
    return NULL;
}

typedef struct {
    part *parts;
    int n, next; /* the part that is begun next */
} team;

static inline void run_share(void *argument) {
    team *all = argument;
    for (int each; (each = __atomic_fetch_add(&all->next, 1, __ATOMIC_RELAXED)) < all->n;) run_part(&all->parts[each]);
}

/* What gives work to the threads of OpenMP that PyTorch has; to start others takes as long as a small product. */
typedef void (*openmp)(void (*body)(void *), void *data, unsigned threads, unsigned flags);

static inline openmp find_openmp(void) {
    openmp found;
    *(void **)&found = dlsym(RTLD_DEFAULT, "GOMP_parallel");
    return found;
}

static inline void run_by_threads(part *parts, int n) {
    pthread_t ids[MOST_THREADS];
    int started[MOST_THREADS] = {0};
    for (int each = 0; each + 1 < n; each++)
        started[each] = pthread_create(&ids[each], NULL, run_part, &parts[each]) == 0;
    for (int each = n - 1; each >= 0; each--)
        if (!started[each]) run_part(&parts[each]);
    for (int each = 0; each < n; each++)
        if (started[each]) pthread_join(ids[each], NULL);
}

/* Runs a body for each part, from the end of the part before it to its own end. */
static inline void in_parts(const void *work, part_body run, const int64_t *ends, int threads) {
    part parts[MOST_THREADS];
    for (int each = 0; each < threads; each++) parts[each] = (part){work, run, each ? ends[each - 1] : 0, ends[each]};
    team all = {parts, threads, 0};
    openmp parallel = threads > 1 ? find_openmp() : NULL;
    if (threads == 1) run_part(parts);
    else if (parallel != NULL) parallel(run_share, &all, (unsigned)threads, 0);
    else run_by_threads(parts, threads);
}

/* The number of parts of n, each of at least `least`. */
static inline int parts_of(int64_t n, int64_t least, int threads) {
    if (threads > n / least) threads = (int)(n / least);
    if (threads > MOST_THREADS) threads = MOST_THREADS;
    return threads < 1 ? 1 : threads;
}

/* Runs a body over 0 to n in parts of the same size, of at least `least`. */
static inline void evenly(const void *work, part_body run, int64_t n, int64_t least, int threads) {
    int64_t ends[MOST_THREADS];
    threads = parts_of(n, least, threads);
    for (int each = 0; each < threads; each++) ends[each] = n * (each + 1) / threads;
    in_parts(work, run, ends, threads);
}

#endif
