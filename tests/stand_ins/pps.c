/* A PPS device that is not there, for LD_PRELOAD: one path answers as the kernel's interface of
 * RFC 2783 does, so that a daemon's own open and ioctl calls are what is tested. No clock is
 * touched and no privilege needed.
 *
 *   PPS_STAND_IN_PATH       the path, e.g. /dev/pps0
 *   PPS_STAND_IN_FILE       the device is there for as long as this file is; its pulses are
 *                           counted from the file's time of change, as a kernel counts them from
 *                           the moment the device is plugged in
 *   PPS_STAND_IN_OFFSET_NS  pulses come so long after the second of CLOCK_REALTIME
 *   PPS_STAND_IN_JITTER_NS  and each is stamped up to so much before or after that
 *   PPS_STAND_IN_SEED       which jitter
 *   PPS_STAND_IN_MODE       the edges captured when it is plugged in, as in linux/pps.h; both if unset
 *   STAND_IN_FAULTS         see faults.h: open, getcap, getparams, setparams, fetch
 *
 * Not served: poll and select (nobody here uses them on such a device) and the kernel consumer.
 *
 * Build: cc -shared -fPIC -O2 -o pps.so pps.c -ldl */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/pps.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#include "faults.h"

#define SECOND INT64_C(1000000000)
#define WIDTH (SECOND / 10)
#define MOST_FDS 1024

/* For each descriptor of ours: when its device was plugged in, ns; 0 for all others. */
static _Atomic int64_t plugged_in[MOST_FDS];

static int64_t setting(const char *name) {
    const char *text = getenv(name);
    return text ? strtoll(text, NULL, 10) : 0;
}

static int is_ours(const char *path) {
    const char *ours = getenv("PPS_STAND_IN_PATH");
    return ours && path && strcmp(path, ours) == 0;
}

static int64_t nanos(struct timespec t) { return t.tv_sec * SECOND + t.tv_nsec; }

/* The machine's time, whatever stands in for the clock (clock.c). */
static int64_t now(void) {
    struct timespec t;
    ((int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime"))(CLOCK_REALTIME, &t);
    return nanos(t);
}

/* What stands in for the clock reads this at an instant of the machine's, if anything does. */
__attribute__((weak)) int64_t clock_stand_in_at(int64_t machine_time);

/* When the device was plugged in; 0 if it is not there. fstatat is not one of the calls below. */
static int64_t presence(void) {
    const char *file = getenv("PPS_STAND_IN_FILE");
    struct stat status;
    if (!file || fstatat(AT_FDCWD, file, &status, 0) != 0) return 0;
    return nanos(status.st_ctim);
}

/* The stamp of the pulse of a second: the same for all who ask. */
static int64_t stamp(int64_t second) {
    int64_t most = setting("PPS_STAND_IN_JITTER_NS");
    uint64_t x = (uint64_t)second * UINT64_C(0x9e3779b97f4a7c15) + (uint64_t)setting("PPS_STAND_IN_SEED");
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    x ^= x >> 31;
    int64_t jitter = most > 0 ? (int64_t)(x % (uint64_t)(2 * most + 1)) - most : 0;
    return second * SECOND + setting("PPS_STAND_IN_OFFSET_NS") + jitter;
}

struct edge {
    uint32_t sequence;
    int64_t at;
};

/* The last edge at `time` of a device plugged in at `birth`; `after` the second's pulse. */
static struct edge last_edge(int64_t time, int64_t birth, int64_t after) {
    int64_t first = birth / SECOND + 2, second = time / SECOND + 1;
    while (second >= first && stamp(second) + after > time) second--;
    if (second < first) return (struct edge){0, 0};
    return (struct edge){(uint32_t)(second - first + 1), stamp(second) + after};
}

static struct pps_ktime ktime(int64_t t) {
    if (t != 0 && clock_stand_in_at) t = clock_stand_in_at(t);
    return (struct pps_ktime){.sec = t / SECOND, .nsec = (int32_t)(t % SECOND)};
}

static _Atomic int mode;

static int fail(int error) {
    errno = error;
    return -1;
}

static int fetch(struct pps_fdata *data, int64_t birth) {
    int64_t asked = now();
    int for_ever = (data->timeout.flags & PPS_TIME_INVALID) != 0;
    int64_t patience = data->timeout.sec * SECOND + data->timeout.nsec;
    struct edge assert0 = last_edge(asked, birth, 0), clear0 = last_edge(asked, birth, WIDTH);
    for (;;) {
        /* Unplugged, or another device by now. */
        if (presence() != birth) return fail(ENODEV);
        int64_t time = now();
        struct edge assert = last_edge(time, birth, 0), clear = last_edge(time, birth, WIDTH);
        int is_new = assert.sequence != assert0.sequence || clear.sequence != clear0.sequence;
        /* A timeout of zero asks for what there is. */
        if (is_new || (!for_ever && patience == 0)) {
            memset(&data->info, 0, sizeof data->info);
            data->info.assert_sequence = assert.sequence;
            data->info.clear_sequence = clear.sequence;
            data->info.assert_tu = ktime(assert.at);
            data->info.clear_tu = ktime(clear.at);
            data->info.current_mode = mode;
            return 0;
        }
        if (!for_ever && time - asked >= patience) return fail(ETIMEDOUT);
        /* Short steps, because nothing wakes us when the file goes. */
        struct timespec step = {0, 1000000};
        if (nanosleep(&step, NULL) != 0) return fail(EINTR);
    }
}

static const char *name_of(unsigned long request) {
    switch (request) {
    case PPS_GETCAP:
        return "getcap";
    case PPS_GETPARAMS:
        return "getparams";
    case PPS_SETPARAMS:
        return "setparams";
    case PPS_FETCH:
        return "fetch";
    default:
        return "another";
    }
}

static int answer(unsigned long request, void *argument, int64_t birth) {
    if (presence() != birth) return fail(ENODEV);
    int error = fault(name_of(request));
    if (error) return fail(error);
    switch (request) {
    case PPS_GETCAP:
        *(int *)argument = PPS_CAPTUREBOTH | PPS_OFFSETASSERT | PPS_OFFSETCLEAR | PPS_CANWAIT | PPS_TSFMT_TSPEC;
        return 0;
    case PPS_GETPARAMS:
        *(struct pps_kparams *)argument = (struct pps_kparams){.api_version = PPS_API_VERS, .mode = mode};
        return 0;
    case PPS_SETPARAMS:
        mode = ((struct pps_kparams *)argument)->mode;
        return 0;
    case PPS_FETCH:
        return fetch(argument, birth);
    case PPS_KC_BIND:
        return fail(EOPNOTSUPP);
    default:
        return fail(ENOTTY);
    }
}

static int open_ours(void) {
    int64_t birth = presence();
    if (birth == 0) return fail(ENOENT);
    int error = fault("open");
    if (error) return fail(error);
    mode = (getenv("PPS_STAND_IN_MODE") ? (int)setting("PPS_STAND_IN_MODE") : PPS_CAPTUREBOTH) | PPS_TSFMT_TSPEC;
    int fd = eventfd(0, EFD_CLOEXEC);
    if (fd >= MOST_FDS) {
        close(fd);
        return fail(EMFILE);
    }
    if (fd >= 0) plugged_in[fd] = birth;
    return fd;
}

#define OPEN(name)                                                                       \
    int name(const char *path, int flags, ...) {                                         \
        va_list rest;                                                                    \
        va_start(rest, flags);                                                           \
        mode_t bits = (flags & (O_CREAT | O_TMPFILE)) ? va_arg(rest, mode_t) : 0;        \
        va_end(rest);                                                                    \
        if (is_ours(path)) return open_ours();                                           \
        return ((int (*)(const char *, int, ...))dlsym(RTLD_NEXT, #name))(path, flags, bits); \
    }
OPEN(open)
OPEN(open64)

/* What open becomes where the program was built with _FORTIFY_SOURCE. */
int __open_2(const char *path, int flags) { return open(path, flags); }
int __open64_2(const char *path, int flags) { return open64(path, flags); }

int close(int fd) {
    if (fd >= 0 && fd < MOST_FDS) plugged_in[fd] = 0;
    return ((int (*)(int))dlsym(RTLD_NEXT, "close"))(fd);
}

int ioctl(int fd, unsigned long request, ...) {
    va_list rest;
    va_start(rest, request);
    void *argument = va_arg(rest, void *);
    va_end(rest);
    int64_t birth = fd >= 0 && fd < MOST_FDS ? plugged_in[fd] : 0;
    if (birth != 0) return answer(request, argument, birth);
    return ((int (*)(int, unsigned long, ...))dlsym(RTLD_NEXT, "ioctl"))(fd, request, argument);
}

int access(const char *path, int wanted) {
    if (is_ours(path)) return presence() ? 0 : fail(ENOENT);
    return ((int (*)(const char *, int))dlsym(RTLD_NEXT, "access"))(path, wanted);
}

#define STAT(name, type)                                                                   \
    int name(const char *path, struct type *status) {                                      \
        if (!is_ours(path))                                                                \
            return ((int (*)(const char *, struct type *))dlsym(RTLD_NEXT, #name))(path, status); \
        if (presence() == 0) return fail(ENOENT);                                          \
        memset(status, 0, sizeof *status);                                                 \
        status->st_mode = S_IFCHR | 0600;                                                  \
        status->st_rdev = makedev(250, 0);                                                 \
        return 0;                                                                          \
    }
STAT(stat, stat)
STAT(stat64, stat64)
