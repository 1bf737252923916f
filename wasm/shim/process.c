/* What a program is to its system and WASI does not say: whose files there are, and how long the program has run. Linked before the
   C library's functions of these names, or around them (--wrap: imagebuild/steps.py). */
#include "process.h"
#include "hot.h"
#include "wasi.h"
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/times.h>
#include <time.h>

/* ---- files: of the one user, whose number os.getuid (overlay/cloche_system.py) takes from here. Their modes are those with which
   the host makes files in mounts. */
enum { NODE = 1000, FOLDER_MODE = 0700, FILE_MODE = 0600, DEVICE_MODE = 0666 };

static int owned(int failed, struct stat *status) {
    if (failed) return failed;
    status->st_uid = status->st_gid = NODE;
    status->st_mode |= S_ISDIR(status->st_mode) ? FOLDER_MODE : S_ISREG(status->st_mode) ? FILE_MODE : DEVICE_MODE;
    return 0;
}
int __real_fstat(int fd, struct stat *status);
int __wrap_fstat(int fd, struct stat *status) { return owned(__real_fstat(fd, status), status); }
int __real___wasilibc_nocwd_fstatat(int fd, const char *path, struct stat *status, int flags);
int __wrap___wasilibc_nocwd_fstatat(int fd, const char *path, struct stat *status, int flags) {
    return owned(__real___wasilibc_nocwd_fstatat(fd, path, status, flags), status);
}

/* ---- clocks */
static uint64_t began HOT; /* by the monotonic clock */

void process_begin(void) { began = wasi_monotonic(); }

/* Time since the node was loaded, sleep included. The C library's counts from the start of the machine that built the image. */
clock_t __clock(void) {
    uint64_t now = wasi_monotonic();
    if (now < began) began = now; /* a snapshot of another machine, or of this one before it was started again */
    return (clock_t)(now - began);
}
clock_t clock(void) { return __clock(); }

/* As sysconf(_SC_CLK_TCK) says, which os.times divides by: the C library's counts nanoseconds. */
enum { TICK_NS = 10000000 };

clock_t times(struct tms *used) {
    *used = (struct tms){.tms_utime = __clock() / TICK_NS};
    return (clock_t)wasi_monotonic() / TICK_NS;
}

/* Python's clocks have Linux's numbers; the C library's are addresses, and it would read at any address that a node gives. */
enum { LINUX_REALTIME, LINUX_MONOTONIC, LINUX_PROCESS, LINUX_THREAD, LINUX_RAW, LINUX_BOOT = 7, LINUX_TAI = 11 };

static clock_t now(void) { return (clock_t)wasi_now(); }
static clock_t monotonic(void) { return (clock_t)wasi_monotonic(); }

static clock_t (*reading(clockid_t clock))(void) {
    if (clock == CLOCK_REALTIME) return now;
    if (clock == CLOCK_MONOTONIC) return monotonic;
    switch ((uintptr_t)clock) {
    case LINUX_REALTIME:
    case LINUX_TAI: return now;
    case LINUX_MONOTONIC:
    case LINUX_RAW:
    case LINUX_BOOT: return monotonic;
    case LINUX_PROCESS:
    case LINUX_THREAD: return __clock;
    }
    errno = EINVAL;
    return NULL;
}
int clock_gettime(clockid_t clock, struct timespec *time) {
    clock_t (*read)(void) = reading(clock);
    if (!read) return -1;
    clock_t ns = read();
    *time = (struct timespec){.tv_sec = ns / 1000000000, .tv_nsec = (long)(ns % 1000000000)};
    return 0;
}
int clock_getres(clockid_t clock, struct timespec *resolution) {
    if (!reading(clock)) return -1;
    if (resolution) *resolution = (struct timespec){.tv_nsec = 1};
    return 0;
}
