/* A system clock that is not the machine's, for LD_PRELOAD: CLOCK_REALTIME and CLOCK_TAI of the
 * program are a line over the raw counter which clock_adjtime steers as the kernel's is steered. No
 * call that sets a clock ever reaches the kernel.
 *
 *   CLOCK_STAND_IN_OFFSET_NS  the clock begins so far ahead of the machine's
 *   CLOCK_STAND_IN_STATE      a file that holds how it stands: a line "offset_ns granted refused
 *                             foreign", offset = this clock - the machine's, and the counts of
 *                             calls to set it that were granted and refused, and that were others
 *                             than clock_adjtime
 *   STAND_IN_FAULTS           see faults.h: adjtime-read, -rate, -step, -tai, -status, gettime-tai
 *
 * Load it before pps.so, whose pulses then have the machine's seconds and this clock's stamps.
 *
 * Build: cc -shared -fPIC -O2 -o clock.so clock.c -ldl */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/time.h>
#include <sys/timex.h>
#include <time.h>

#include "faults.h"

#define SECOND INT64_C(1000000000)
#define TICK 10000

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
/* The clock read `at` when the raw counter read `raw`. */
static int64_t at, raw;
static long tick = TICK, frequency;
static int status = STA_UNSYNC, tai;
static long max_error = 16000000, est_error = 16000000;
static long granted, refused, foreign;
static int state = -1;

static int64_t machine(clockid_t clock) {
    static int (*real)(clockid_t, struct timespec *);
    struct timespec t;
    if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    real(clock, &t);
    return t.tv_sec * SECOND + t.tv_nsec;
}

static double rate(void) { return (double)(tick - TICK) / TICK + frequency / 65536e6; }

static int64_t realtime(int64_t raw_now) { return at + (raw_now - raw) + (int64_t)((raw_now - raw) * rate()); }

__attribute__((constructor)) static void begin(void) {
    const char *offset = getenv("CLOCK_STAND_IN_OFFSET_NS"), *path = getenv("CLOCK_STAND_IN_STATE");
    raw = machine(CLOCK_MONOTONIC_RAW);
    at = machine(CLOCK_REALTIME) + (offset ? strtoll(offset, NULL, 10) : 0);
    /* Before the program shuts itself in. */
    if (path) state = (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
}

static void tell(void) {
    char text[128];
    int64_t offset = realtime(machine(CLOCK_MONOTONIC_RAW)) - machine(CLOCK_REALTIME);
    int length = snprintf(text, sizeof text, "%20lld %9ld %9ld %9ld\n", (long long)offset, granted, refused, foreign);
    /* Always of one length, so that a reader never sees half of two. */
    if (state >= 0 && pwrite(state, text, (size_t)length, 0) < 0) state = -1;
}

/* This clock at an instant of the machine's: for stamps of devices that stand in. */
int64_t clock_stand_in_at(int64_t machine_time) {
    pthread_mutex_lock(&lock);
    int64_t ago = machine(CLOCK_REALTIME) - machine_time;
    int64_t stamp = realtime(machine(CLOCK_MONOTONIC_RAW) - ago);
    pthread_mutex_unlock(&lock);
    return stamp;
}

int clock_gettime(clockid_t clock, struct timespec *t) {
    int64_t read;
    if (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE || clock == CLOCK_TAI) {
        int error = clock == CLOCK_TAI ? fault("gettime-tai") : 0;
        if (error) {
            errno = error;
            return -1;
        }
        pthread_mutex_lock(&lock);
        read = realtime(machine(CLOCK_MONOTONIC_RAW)) + (clock == CLOCK_TAI ? tai * SECOND : 0);
        pthread_mutex_unlock(&lock);
    } else {
        read = machine(clock);
    }
    t->tv_sec = read / SECOND;
    t->tv_nsec = read % SECOND;
    return 0;
}

static int first_fault(unsigned modes) {
    static const struct {
        unsigned modes;
        const char *call;
    } calls[] = {{ADJ_FREQUENCY | ADJ_TICK, "adjtime-rate"},
                 {ADJ_SETOFFSET, "adjtime-step"},
                 {ADJ_TAI, "adjtime-tai"},
                 {ADJ_STATUS | ADJ_MAXERROR | ADJ_ESTERROR, "adjtime-status"}};
    if (modes == 0) return fault("adjtime-read");
    for (unsigned i = 0; i < sizeof calls / sizeof calls[0]; i++) {
        int error = modes & calls[i].modes ? fault(calls[i].call) : 0;
        if (error) return error;
    }
    return 0;
}

static int adjust(struct timex *t) {
    /* ADJ_NANO says how to read the time of ADJ_SETOFFSET; by itself it sets nothing. */
    unsigned modes = t->modes & ~(unsigned)ADJ_NANO;
    int error = first_fault(modes);
    pthread_mutex_lock(&lock);
    if (modes != 0) *(error ? &refused : &granted) += 1;
    if (!error) {
        int64_t now = machine(CLOCK_MONOTONIC_RAW);
        at = realtime(now);
        raw = now;
        if (modes & ADJ_FREQUENCY) frequency = t->freq;
        if (modes & ADJ_TICK) tick = t->tick;
        if (modes & ADJ_STATUS) status = t->status;
        if (modes & ADJ_MAXERROR) max_error = t->maxerror;
        if (modes & ADJ_ESTERROR) est_error = t->esterror;
        if (modes & ADJ_TAI) tai = (int)t->constant;
        if (modes & ADJ_SETOFFSET) {
            at += t->time.tv_sec * SECOND + t->time.tv_usec * (t->modes & ADJ_NANO ? 1 : 1000);
            status |= STA_UNSYNC;
        }
        t->freq = frequency;
        t->tick = tick;
        t->status = status;
        t->maxerror = max_error;
        t->esterror = est_error;
        t->tai = tai;
    }
    tell();
    pthread_mutex_unlock(&lock);
    errno = error;
    return error ? -1 : status & STA_UNSYNC ? TIME_ERROR : TIME_OK;
}

int clock_adjtime(clockid_t clock, struct timex *t) {
    if (clock == CLOCK_REALTIME) return adjust(t);
    errno = EOPNOTSUPP;
    return -1;
}

/* The other ways to a clock are shut. */
static int shut(void) {
    pthread_mutex_lock(&lock);
    foreign++;
    tell();
    pthread_mutex_unlock(&lock);
    errno = EPERM;
    return -1;
}

int adjtimex(struct timex *t) {
    (void)t;
    return shut();
}
int ntp_adjtime(struct timex *t) {
    (void)t;
    return shut();
}
int clock_settime(clockid_t clock, const struct timespec *t) {
    (void)clock, (void)t;
    return shut();
}
int settimeofday(const struct timeval *t, const struct timezone *zone) {
    (void)t, (void)zone;
    return shut();
}
int adjtime(const struct timeval *by, struct timeval *left) {
    (void)by, (void)left;
    return shut();
}
