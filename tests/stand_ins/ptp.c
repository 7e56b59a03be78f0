/* A PTP hardware clock that is not there, for LD_PRELOAD: one path answers as the kernel's interface
 * (linux/ptp_clock.h) does. No clock is touched and no privilege needed.
 *
 *   PTP_STAND_IN_PATH      the path, e.g. /dev/ptp0
 *   PTP_STAND_IN_CLOCK_NS  how far this clock is ahead of CLOCK_REALTIME
 *   PTP_STAND_IN_PULSE_NS  a pulse comes on its input so long after each second of CLOCK_REALTIME
 *   PTP_STAND_IN_WAYS      how it may be read: any of the letters p (precise), e (extended), b (basic)
 *
 * Pin 3 may be its only input, number 0. Build: cc -shared -fPIC -O2 -o ptp.so ptp.c -ldl */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/ptp_clock.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define SECOND INT64_C(1000000000)

/* Our only descriptor: a timer that fires at each pulse once they are wanted. */
static int ours = -1;
static int pin_is_input;

static int64_t setting(const char *name) {
    const char *text = getenv(name);
    return text ? strtoll(text, NULL, 10) : 0;
}

static int is_ours(const char *path) {
    const char *name = getenv("PTP_STAND_IN_PATH");
    return name && path && strcmp(path, name) == 0;
}

static int fail(int error) {
    errno = error;
    return -1;
}

static int64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return t.tv_sec * SECOND + t.tv_nsec;
}

static struct ptp_clock_time split(int64_t t) {
    return (struct ptp_clock_time){.sec = t / SECOND, .nsec = (uint32_t)(t % SECOND)};
}

static struct ptp_clock_time system_time(void) { return split(now()); }

static struct ptp_clock_time device_time(int64_t at) { return split(at + setting("PTP_STAND_IN_CLOCK_NS")); }

static int can(char way) {
    const char *ways = getenv("PTP_STAND_IN_WAYS");
    return !ways || strchr(ways, way);
}

static int start_pulses(const struct ptp_extts_request *asked) {
    if (asked->index != 0 || !pin_is_input) return fail(EINVAL);
    if (!(asked->flags & PTP_ENABLE_FEATURE) || !(asked->flags & PTP_RISING_EDGE)) return fail(EOPNOTSUPP);
    int64_t first = (now() / SECOND + 1) * SECOND + setting("PTP_STAND_IN_PULSE_NS");
    struct itimerspec each = {{1, 0}, {first / SECOND, first % SECOND}};
    return timerfd_settime(ours, TFD_TIMER_ABSTIME, &each, NULL);
}

static int answer(unsigned long request, void *argument) {
    switch (request) {
    case PTP_CLOCK_GETCAPS:
        *(struct ptp_clock_caps *)argument =
            (struct ptp_clock_caps){.n_ext_ts = 1, .n_pins = 4, .cross_timestamping = 1};
        return 0;
    case PTP_SYS_OFFSET_PRECISE: {
        if (!can('p')) return fail(EOPNOTSUPP);
        struct ptp_sys_offset_precise *both = argument;
        int64_t at = now();
        both->device = device_time(at);
        both->sys_realtime = split(at);
        return 0;
    }
    case PTP_SYS_OFFSET_EXTENDED: {
        if (!can('e')) return fail(EOPNOTSUPP);
        struct ptp_sys_offset_extended *read = argument;
        if (read->n_samples > PTP_MAX_SAMPLES) return fail(EINVAL);
        for (unsigned i = 0; i < read->n_samples; i++) {
            read->ts[i][0] = system_time();
            read->ts[i][1] = device_time(now());
            read->ts[i][2] = system_time();
        }
        return 0;
    }
    case PTP_SYS_OFFSET: {
        if (!can('b')) return fail(EOPNOTSUPP);
        struct ptp_sys_offset *read = argument;
        if (read->n_samples > PTP_MAX_SAMPLES) return fail(EINVAL);
        for (unsigned i = 0; i < read->n_samples; i++) {
            read->ts[2 * i] = system_time();
            read->ts[2 * i + 1] = device_time(now());
        }
        read->ts[2 * read->n_samples] = system_time();
        return 0;
    }
    case PTP_PIN_SETFUNC: {
        const struct ptp_pin_desc *pin = argument;
        if (pin->index != 3 || pin->chan != 0) return fail(EINVAL);
        pin_is_input = pin->func == PTP_PF_EXTTS;
        return 0;
    }
    case PTP_EXTTS_REQUEST:
        return start_pulses(argument);
    default:
        return fail(ENOTTY);
    }
}

#define OPEN(name)                                                                       \
    int name(const char *path, int flags, ...) {                                         \
        va_list rest;                                                                    \
        va_start(rest, flags);                                                           \
        mode_t bits = (flags & (O_CREAT | O_TMPFILE)) ? va_arg(rest, mode_t) : 0;        \
        va_end(rest);                                                                    \
        if (is_ours(path)) return ours = timerfd_create(CLOCK_REALTIME, TFD_NONBLOCK | TFD_CLOEXEC); \
        return ((int (*)(const char *, int, ...))dlsym(RTLD_NEXT, #name))(path, flags, bits); \
    }
OPEN(open)
OPEN(open64)

int close(int fd) {
    if (fd == ours) ours = -1;
    return ((int (*)(int))dlsym(RTLD_NEXT, "close"))(fd);
}

int ioctl(int fd, unsigned long request, ...) {
    va_list rest;
    va_start(rest, request);
    void *argument = va_arg(rest, void *);
    va_end(rest);
    if (fd >= 0 && fd == ours) return answer(request, argument);
    return ((int (*)(int, unsigned long, ...))dlsym(RTLD_NEXT, "ioctl"))(fd, request, argument);
}

ssize_t read(int fd, void *buffer, size_t size) {
    ssize_t (*real)(int, void *, size_t) = (ssize_t(*)(int, void *, size_t))dlsym(RTLD_NEXT, "read");
    if (fd < 0 || fd != ours) return real(fd, buffer, size);
    uint64_t fired;
    if (size < sizeof(struct ptp_extts_event)) return fail(EINVAL);
    if (real(fd, &fired, sizeof fired) < 0) return -1;
    /* The last pulse; those before it were lost, as in a queue that is full. */
    int64_t late = setting("PTP_STAND_IN_PULSE_NS"), second = (now() - late) / SECOND;
    struct ptp_extts_event event = {.t = device_time(second * SECOND + late), .index = 0};
    memcpy(buffer, &event, sizeof event);
    return sizeof event;
}
