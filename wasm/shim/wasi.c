/* The WASI functions that the C library calls, defined inside the image, so that the image imports none of them.

   The guest sees no environment, no arguments and no sockets. Files are in wasi_files.c; the freezer has none (freezer_files.c).
   Four functions call the host: clock, random, sleep and exit. */
#include "wire/abi.h"
#include "wasi.h"
#include <errno.h>
#include <string.h>
#include <time.h>
#include <wasi/api.h>

#define HOST(name) __attribute__((import_module(IMPORT_MODULE), import_name(#name))) extern
HOST(clock) int64_t host_clock(int32_t id);
HOST(random) int64_t host_random(void);
HOST(sleep) int32_t host_sleep(int64_t ns);
HOST(exit) void host_exit(int32_t code);

typedef __wasi_errno_t err;

_Noreturn void wasi_exit(uint32_t code) {
    host_exit((int32_t)code);
    __builtin_trap();
}
_Noreturn void __wasi_proc_exit(__wasi_exitcode_t code) { wasi_exit(code & 0xff); }

/* ---- arguments and environment: empty */
err __wasi_args_get(uint8_t **argv, uint8_t *buf) { return 0; }
err __wasi_args_sizes_get(__wasi_size_t *n, __wasi_size_t *size) { return *n = *size = 0; }
err __wasi_environ_get(uint8_t **env, uint8_t *buf) { return 0; }
err __wasi_environ_sizes_get(__wasi_size_t *n, __wasi_size_t *size) { return *n = *size = 0; }
err __wasi_sched_yield(void) { return 0; }

/* ---- clock, sleep, random */
err __wasi_clock_res_get(__wasi_clockid_t id, __wasi_timestamp_t *ns) {
    *ns = 1;
    return id <= CLOCK_ID_THREAD_CPU ? 0 : __WASI_ERRNO_INVAL;
}
err __wasi_clock_time_get(__wasi_clockid_t id, __wasi_timestamp_t precision, __wasi_timestamp_t *ns) {
    if (id > CLOCK_ID_THREAD_CPU) return __WASI_ERRNO_INVAL;
    *ns = (__wasi_timestamp_t)host_clock((int32_t)id);
    return 0;
}

uint64_t wasi_now(void) { return (uint64_t)host_clock(CLOCK_ID_REALTIME); }
uint64_t wasi_monotonic(void) { return (uint64_t)host_clock(CLOCK_ID_MONOTONIC); }

/* Sleeps until the earliest timer. Descriptors are always ready: reading finds the end of the input, and writing never blocks. */
err __wasi_poll_oneoff(const __wasi_subscription_t *in, __wasi_event_t *out, __wasi_size_t n, __wasi_size_t *done) {
    const __wasi_subscription_t *first = NULL;
    uint64_t wait = 0;
    *done = 0;
    for (__wasi_size_t i = 0; i < n; i++) {
        const __wasi_subscription_t *s = &in[i];
        if (s->u.tag != __WASI_EVENTTYPE_CLOCK) {
            __wasi_fd_t fd = s->u.u.fd_read.file_descriptor;
            out[(*done)++] = (__wasi_event_t){.userdata = s->userdata, .type = s->u.tag, .error = fd < 3 ? 0 : __WASI_ERRNO_BADF};
            continue;
        }
        uint64_t ns = s->u.u.clock.timeout;
        if (s->u.u.clock.flags & __WASI_SUBCLOCKFLAGS_SUBSCRIPTION_CLOCK_ABSTIME) {
            uint64_t now = (uint64_t)host_clock((int32_t)s->u.u.clock.id);
            ns = ns > now ? ns - now : 0;
        }
        if (!first || ns < wait) first = s, wait = ns;
    }
    if (*done || !first) return n ? 0 : __WASI_ERRNO_INVAL;
    int32_t e = host_sleep((int64_t)(wait > INT64_MAX ? INT64_MAX : wait));
    if (e) return (err)e;
    out[(*done)++] = (__wasi_event_t){.userdata = first->userdata, .type = __WASI_EVENTTYPE_CLOCK};
    return 0;
}

/* Replaces the C library's, which turns every error into ENOTSUP: `time.sleep` looks for signals only after EINTR. */
int clock_nanosleep(clockid_t clock, int flags, const struct timespec *wanted, struct timespec *left) {
    if (wanted->tv_nsec < 0 || wanted->tv_nsec >= 1000000000) return EINVAL;
    uint64_t seconds = (uint64_t)wanted->tv_sec, ns = (uint64_t)wanted->tv_nsec;
    if (wanted->tv_sec < 0) {
        if (!(flags & TIMER_ABSTIME)) return EINVAL;
        seconds = INT64_MAX; /* CPython's sum of now and the time to sleep has overflowed */
    }
    ns = seconds > (UINT64_MAX - ns) / 1000000000 ? UINT64_MAX : seconds * 1000000000 + ns;
    if (flags & TIMER_ABSTIME) {
        uint64_t now = clock == CLOCK_REALTIME ? wasi_now() : wasi_monotonic();
        ns = ns > now ? ns - now : 0;
    }
    return ns ? host_sleep((int64_t)(ns > INT64_MAX ? INT64_MAX : ns)) : 0;
}

/* ChaCha20 (RFC 8439, section 2.3) stretches 32 bytes of the host's entropy over a large request. */
static void chacha20(uint32_t out[16], const uint32_t key[8], uint32_t counter) {
    uint32_t s[16] = {0x61707865, 0x3320646e, 0x79622d32, 0x6b206574};
    memcpy(s + 4, key, 32);
    s[12] = counter;
    memcpy(out, s, 64);
#define ROTATE(x, n) ((x) << (n) | (x) >> (32 - (n)))
#define QUARTER(a, b, c, d) \
    a += b, d = ROTATE(d ^ a, 16), c += d, b = ROTATE(b ^ c, 12), a += b, d = ROTATE(d ^ a, 8), c += d, b = ROTATE(b ^ c, 7)
    uint32_t *x = out;
    for (int i = 0; i < 10; i++) {
        QUARTER(x[0], x[4], x[8], x[12]), QUARTER(x[1], x[5], x[9], x[13]);
        QUARTER(x[2], x[6], x[10], x[14]), QUARTER(x[3], x[7], x[11], x[15]);
        QUARTER(x[0], x[5], x[10], x[15]), QUARTER(x[1], x[6], x[11], x[12]);
        QUARTER(x[2], x[7], x[8], x[13]), QUARTER(x[3], x[4], x[9], x[14]);
    }
    for (int i = 0; i < 16; i++) x[i] += s[i];
}
static void host_entropy(uint8_t *p, size_t n) {
    for (size_t some; n; p += some, n -= some) {
        uint64_t word = (uint64_t)host_random();
        some = n < 8 ? n : 8;
        memcpy(p, &word, some);
    }
}
err __wasi_random_get(uint8_t *p, __wasi_size_t n) {
    if (n <= 64) {
        host_entropy(p, n);
        return 0;
    }
    uint32_t key[8], block[16];
    host_entropy((uint8_t *)key, sizeof key);
    for (size_t some, counter = 0; n; p += some, n -= some) {
        chacha20(block, key, (uint32_t)counter++);
        some = n < sizeof block ? n : sizeof block;
        memcpy(p, block, some);
    }
    memset(key, 0, sizeof key);
    return 0;
}
void wasi_random(uint8_t *p, size_t n) { (void)__wasi_random_get(p, n); }

/* ---- no sockets */
err __wasi_sock_accept(__wasi_fd_t fd, __wasi_fdflags_t flags, __wasi_fd_t *got) { return __WASI_ERRNO_NOTSOCK; }
err __wasi_sock_recv(__wasi_fd_t fd, const __wasi_iovec_t *v, size_t n, __wasi_riflags_t flags, __wasi_size_t *got,
                     __wasi_roflags_t *out) {
    return __WASI_ERRNO_NOTSOCK;
}
err __wasi_sock_send(__wasi_fd_t fd, const __wasi_ciovec_t *v, size_t n, __wasi_siflags_t flags, __wasi_size_t *sent) {
    return __WASI_ERRNO_NOTSOCK;
}
err __wasi_sock_shutdown(__wasi_fd_t fd, __wasi_sdflags_t how) { return __WASI_ERRNO_NOTSOCK; }
