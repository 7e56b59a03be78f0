/* Calls that fail when a test says so. The file named by STAND_IN_FAULTS has a line for each:
 *
 *   fetch ENODEV
 *
 * Without the variable, or without the file, nothing fails. It is read at each call, so that a test
 * can change its mind while the program runs. */
#ifndef FAULTS_H
#define FAULTS_H

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static int errno_named(const char *name) {
    static const struct {
        const char *name;
        int number;
    } known[] = {{"EPERM", EPERM}, {"EINVAL", EINVAL}, {"ENODEV", ENODEV}};
    for (unsigned i = 0; i < sizeof known / sizeof known[0]; i++)
        if (strcmp(known[i].name, name) == 0) return known[i].number;
    return ENOSYS;
}

/* The error that this call is to fail with; 0 if it is to work. */
static int fault(const char *call) {
    const char *path = getenv("STAND_IN_FAULTS");
    char text[1024];
    /* The stand-ins have an open of their own. */
    int fd = path ? (int)syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0) return 0;
    ssize_t length = read(fd, text, sizeof text - 1);
    syscall(SYS_close, fd);
    if (length <= 0) return 0;
    text[length] = 0;
    for (char *line, *rest = text; (line = strsep(&rest, "\n"));) {
        char *error = strchr(line, ' ');
        if (!error) continue;
        *error++ = 0;
        if (strcmp(line, call) == 0) return errno_named(error);
    }
    return 0;
}

#endif
