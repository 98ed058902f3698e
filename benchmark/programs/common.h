/* What the C contestants share: the command line, the clocks, the payload. */
#ifndef BENCHMARK_COMMON_H
#define BENCHMARK_COMMON_H

#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { PAYLOAD = 64, LARGE_PAYLOAD = 1 << 20, UNIQUE = 40 };

struct plan {
    const char *role, *function;
    int port;
    long warmup, jobs, window;
    double seconds; /* measuring ends after this time even if jobs are left, the warm-up after a quarter of it */
};

static struct {
    double wall, cpu;
    long warmed; /* jobs done before measuring began */
} begun;

static inline void die(const char *what, const char *why)
{
    fprintf(stderr, "%s: %s\n", what, why);
    exit(1);
}

static inline double seconds_on(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static inline struct plan plan_from(int argc, char **argv)
{
    if (argc != 8) die(argv[0], "takes ROLE PORT FUNCTION WARMUP JOBS WINDOW SECONDS");
    return (struct plan){.role = argv[1],
                         .port = atoi(argv[2]),
                         .function = argv[3],
                         .warmup = atol(argv[4]),
                         .jobs = atol(argv[5]),
                         .window = atol(argv[6]),
                         .seconds = atof(argv[7])};
}

/* Looks at the clock only now and then, so that looking costs nothing. */
static inline bool late(double since, double limit, long done)
{
    return done % 16 == 0 && seconds_on(CLOCK_MONOTONIC) - since > limit;
}

/* To be asked after each job of the warm-up, with how many there were. */
static inline bool warm(const struct plan *plan, long done)
{
    static _Thread_local double since;
    if (since == 0) since = seconds_on(CLOCK_MONOTONIC);
    return done >= plan->warmup || late(since, plan->seconds / 4, done);
}

static inline void begin(long warmed)
{
    begun.warmed = warmed;
    begun.wall = seconds_on(CLOCK_MONOTONIC);
    begun.cpu = seconds_on(CLOCK_PROCESS_CPUTIME_ID);
}

/* To be asked after each measured job. */
static inline bool over(const struct plan *plan, long done)
{
    return done >= plan->jobs || late(begun.wall, plan->seconds, done);
}

static inline void report(long jobs)
{
    double cpu = seconds_on(CLOCK_PROCESS_CPUTIME_ID) - begun.cpu;
    double wall = seconds_on(CLOCK_MONOTONIC) - begun.wall;
    printf("warmed=%ld jobs=%ld seconds=%.9f cpu=%.9f\n", begun.warmed, jobs, wall, cpu);
    fflush(stdout);
}

/* A connected client. */
typedef void *open_client(const struct plan *plan);

/* Does as many jobs, with numbers from `number` on. */
typedef void do_jobs(void *client, const struct plan *plan, long number, long count);

static inline void run_client(const struct plan *plan, open_client *open, do_jobs *some, long count)
{
    void *client = open(plan);
    long number = 0, done = 0;
    do {
        some(client, plan, number, count);
        number += count;
    } while (!warm(plan, number));
    begin(number);
    do {
        some(client, plan, number + done, count);
        done += count;
    } while (!over(plan, done));
    report(done);
}

/* A thread with a client of its own. */
struct thread {
    pthread_t id;
    const struct plan *share; /* of the warm-up and of the jobs */
    open_client *open;
    do_jobs *one;
    pthread_barrier_t *barrier; /* before measuring begins, and when it has */
    long first, warmed, done;
};

static void *run_thread(void *argument)
{
    struct thread *thread = argument;
    void *client = thread->open(thread->share);
    do thread->one(client, thread->share, thread->first + thread->warmed++, 1);
    while (!warm(thread->share, thread->warmed));
    pthread_barrier_wait(thread->barrier);
    pthread_barrier_wait(thread->barrier);
    do thread->one(client, thread->share, thread->first + thread->warmed + thread->done++, 1);
    while (!over(thread->share, thread->done));
    return NULL;
}

/* As many threads as the window says, each of which does one job after the other. */
static inline void run_threads(const struct plan *plan, open_client *open, do_jobs *one)
{
    long count = plan->window, warmed = 0, done = 0;
    struct plan share = *plan;
    share.warmup = (plan->warmup + count - 1) / count;
    share.jobs = (plan->jobs + count - 1) / count;
    pthread_barrier_t barrier;
    pthread_barrier_init(&barrier, NULL, (unsigned)count + 1);
    struct thread *threads = calloc((size_t)count, sizeof *threads);
    for (long i = 0; i < count; i++) {
        threads[i] = (struct thread){
            .share = &share, .open = open, .one = one, .barrier = &barrier, .first = i * (share.warmup + share.jobs)};
        if (pthread_create(&threads[i].id, NULL, run_thread, &threads[i])) die("threads", "cannot be created");
    }
    pthread_barrier_wait(&barrier);
    for (long i = 0; i < count; i++) warmed += threads[i].warmed;
    begin(warmed);
    pthread_barrier_wait(&barrier);
    for (long i = 0; i < count; i++) {
        pthread_join(threads[i].id, NULL);
        done += threads[i].done;
    }
    report(done);
}

/* Counts a worker's jobs; called as each one arrives, it ends the process when all are there. */
static inline void count_job(const struct plan *plan, long arrived)
{
    if (begun.wall == 0) {
        if (warm(plan, arrived)) begin(arrived);
    } else if (over(plan, arrived - begun.warmed)) {
        report(arrived - begun.warmed);
        exit(0);
    }
}

/* The number, in decimal, with zeros in front; not terminated. */
static inline void digits(char *to, size_t width, long number)
{
    memset(to, '0', width);
    for (; number > 0; number /= 10) to[--width] = (char)('0' + number % 10);
}

#endif
