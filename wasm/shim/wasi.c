/* The WASI calls that the C library makes, answered inside the image, so that it imports none of them.

   What the guest sees: an empty read-only root directory (descriptor 3), an empty standard input, output that goes to
   output_write, no environment, no arguments, no sockets. Only clock, random, sleep and exit ask the host. */
#include "abi.h"
#include "output.h"
#include <string.h>
#include <wasi/api.h>

#define HOST(name) __attribute__((import_module(IMPORT_MODULE), import_name(#name))) extern
HOST(clock) int64_t host_clock(int32_t id);
HOST(random) int64_t host_random(void);
HOST(sleep) int32_t host_sleep(int64_t ns);
HOST(exit) void host_exit(int32_t code);

enum { ROOT = 3 };
typedef __wasi_errno_t err;

_Noreturn void wasi_exit(uint32_t code) {
    host_exit((int32_t)code);
    __builtin_trap();
}
_Noreturn void __wasi_proc_exit(__wasi_exitcode_t code) { wasi_exit(code & 0xff); }

static int is_stream(__wasi_fd_t fd) { return fd < ROOT; }
static err of_stream(__wasi_fd_t fd, err answer) { return fd <= ROOT ? answer : __WASI_ERRNO_BADF; }

/* ---- nothing there */
err __wasi_args_get(uint8_t **argv, uint8_t *buf) { return 0; }
err __wasi_args_sizes_get(__wasi_size_t *n, __wasi_size_t *size) { return *n = *size = 0; }
err __wasi_environ_get(uint8_t **env, uint8_t *buf) { return 0; }
err __wasi_environ_sizes_get(__wasi_size_t *n, __wasi_size_t *size) { return *n = *size = 0; }
err __wasi_sched_yield(void) { return 0; }

/* ---- clock, sleep, random */
err __wasi_clock_res_get(__wasi_clockid_t id, __wasi_timestamp_t *ns) {
    *ns = 1;
    return id <= CLOCK_THREAD_CPU ? 0 : __WASI_ERRNO_INVAL;
}
err __wasi_clock_time_get(__wasi_clockid_t id, __wasi_timestamp_t precision, __wasi_timestamp_t *ns) {
    if (id > CLOCK_THREAD_CPU) return __WASI_ERRNO_INVAL;
    *ns = (__wasi_timestamp_t)host_clock((int32_t)id);
    return 0;
}

/* Waits for the earliest timer. Descriptors are always ready: input is at its end, output never blocks. */
err __wasi_poll_oneoff(const __wasi_subscription_t *in, __wasi_event_t *out, __wasi_size_t n, __wasi_size_t *done) {
    const __wasi_subscription_t *first = NULL;
    uint64_t wait = 0;
    *done = 0;
    for (__wasi_size_t i = 0; i < n; i++) {
        const __wasi_subscription_t *s = &in[i];
        if (s->u.tag != __WASI_EVENTTYPE_CLOCK) {
            __wasi_fd_t fd = s->u.u.fd_read.file_descriptor;
            out[(*done)++] = (__wasi_event_t){.userdata = s->userdata, .type = s->u.tag,
                                              .error = is_stream(fd) ? 0 : __WASI_ERRNO_BADF};
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

/* ---- descriptors: 0, 1, 2 and the root directory */
err __wasi_fd_write(__wasi_fd_t fd, const __wasi_ciovec_t *v, size_t n, __wasi_size_t *written) {
    if (fd != 1 && fd != 2) return __WASI_ERRNO_BADF;
    *written = 0;
    for (size_t i = 0; i < n; i++) {
        if (v[i].buf_len) output_write((int)fd, v[i].buf, v[i].buf_len);
        *written += v[i].buf_len;
    }
    return 0;
}
err __wasi_fd_read(__wasi_fd_t fd, const __wasi_iovec_t *v, size_t n, __wasi_size_t *got) {
    *got = 0;
    return fd == 0 ? 0 : fd == ROOT ? __WASI_ERRNO_ISDIR : __WASI_ERRNO_BADF;
}
err __wasi_fd_pread(__wasi_fd_t fd, const __wasi_iovec_t *v, size_t n, __wasi_filesize_t at, __wasi_size_t *got) {
    return of_stream(fd, fd == ROOT ? __WASI_ERRNO_ISDIR : __WASI_ERRNO_SPIPE);
}
err __wasi_fd_pwrite(__wasi_fd_t fd, const __wasi_ciovec_t *v, size_t n, __wasi_filesize_t at, __wasi_size_t *got) {
    return of_stream(fd, __WASI_ERRNO_SPIPE);
}
err __wasi_fd_seek(__wasi_fd_t fd, __wasi_filedelta_t to, __wasi_whence_t whence, __wasi_filesize_t *at) {
    return of_stream(fd, __WASI_ERRNO_SPIPE);
}
err __wasi_fd_tell(__wasi_fd_t fd, __wasi_filesize_t *at) { return of_stream(fd, __WASI_ERRNO_SPIPE); }
err __wasi_fd_close(__wasi_fd_t fd) { return of_stream(fd, 0); } /* they stay open: nothing is there to free */
err __wasi_fd_sync(__wasi_fd_t fd) { return of_stream(fd, 0); }
err __wasi_fd_datasync(__wasi_fd_t fd) { return of_stream(fd, 0); }
err __wasi_fd_renumber(__wasi_fd_t fd, __wasi_fd_t to) { return of_stream(fd, __WASI_ERRNO_NOTSUP); }
err __wasi_fd_advise(__wasi_fd_t fd, __wasi_filesize_t at, __wasi_filesize_t n, __wasi_advice_t advice) {
    return of_stream(fd, __WASI_ERRNO_SPIPE);
}
err __wasi_fd_allocate(__wasi_fd_t fd, __wasi_filesize_t at, __wasi_filesize_t n) {
    return of_stream(fd, __WASI_ERRNO_SPIPE);
}
err __wasi_fd_fdstat_get(__wasi_fd_t fd, __wasi_fdstat_t *s) {
    if (fd > ROOT) return __WASI_ERRNO_BADF;
    /* The right to seek keeps the C library from taking a stream for a terminal. */
    __wasi_rights_t reads = __WASI_RIGHTS_FD_READ | __WASI_RIGHTS_FD_READDIR | __WASI_RIGHTS_PATH_OPEN |
                            __WASI_RIGHTS_PATH_FILESTAT_GET | __WASI_RIGHTS_FD_FILESTAT_GET;
    *s = (__wasi_fdstat_t){
        .fs_filetype = fd == ROOT ? __WASI_FILETYPE_DIRECTORY : __WASI_FILETYPE_CHARACTER_DEVICE,
        .fs_rights_base = __WASI_RIGHTS_FD_SEEK | __WASI_RIGHTS_FD_TELL |
                          (fd == 1 || fd == 2 ? __WASI_RIGHTS_FD_WRITE : reads),
        .fs_rights_inheriting = fd == ROOT ? reads : 0};
    return 0;
}
err __wasi_fd_fdstat_set_flags(__wasi_fd_t fd, __wasi_fdflags_t flags) { return of_stream(fd, 0); }
err __wasi_fd_fdstat_set_rights(__wasi_fd_t fd, __wasi_rights_t base, __wasi_rights_t inheriting) {
    return of_stream(fd, __WASI_ERRNO_NOTSUP);
}
err __wasi_fd_filestat_get(__wasi_fd_t fd, __wasi_filestat_t *s) {
    if (fd > ROOT) return __WASI_ERRNO_BADF;
    *s = (__wasi_filestat_t){.ino = fd + 1, .nlink = 1,
        .filetype = fd == ROOT ? __WASI_FILETYPE_DIRECTORY : __WASI_FILETYPE_CHARACTER_DEVICE};
    return 0;
}
err __wasi_fd_filestat_set_size(__wasi_fd_t fd, __wasi_filesize_t size) { return of_stream(fd, __WASI_ERRNO_INVAL); }
err __wasi_fd_filestat_set_times(__wasi_fd_t fd, __wasi_timestamp_t a, __wasi_timestamp_t m, __wasi_fstflags_t f) {
    return of_stream(fd, __WASI_ERRNO_ROFS);
}

/* ---- the root directory is empty and cannot be written */
err __wasi_fd_prestat_get(__wasi_fd_t fd, __wasi_prestat_t *s) {
    if (fd != ROOT) return __WASI_ERRNO_BADF;
    *s = (__wasi_prestat_t){.tag = __WASI_PREOPENTYPE_DIR, .u.dir.pr_name_len = 1};
    return 0;
}
err __wasi_fd_prestat_dir_name(__wasi_fd_t fd, uint8_t *path, __wasi_size_t n) {
    if (fd != ROOT || n < 1) return fd == ROOT ? __WASI_ERRNO_NAMETOOLONG : __WASI_ERRNO_BADF;
    *path = '/';
    return 0;
}
err __wasi_fd_readdir(__wasi_fd_t fd, uint8_t *buf, __wasi_size_t n, __wasi_dircookie_t at, __wasi_size_t *used) {
    *used = 0;
    return fd == ROOT ? 0 : of_stream(fd, __WASI_ERRNO_NOTDIR);
}
static err missing(__wasi_fd_t fd) { return fd == ROOT ? __WASI_ERRNO_NOENT : of_stream(fd, __WASI_ERRNO_NOTDIR); }
static err read_only(__wasi_fd_t fd) { return fd == ROOT ? __WASI_ERRNO_ROFS : of_stream(fd, __WASI_ERRNO_NOTDIR); }
static int is_root(__wasi_fd_t fd, const char *path) {
    for (; *path == '.' || *path == '/'; path++) {}
    return fd == ROOT && !*path;
}
err __wasi_path_open(__wasi_fd_t fd, __wasi_lookupflags_t look, const char *path, __wasi_oflags_t oflags,
                     __wasi_rights_t base, __wasi_rights_t inheriting, __wasi_fdflags_t flags, __wasi_fd_t *opened) {
    if (!is_root(fd, path)) return oflags & __WASI_OFLAGS_CREAT ? read_only(fd) : missing(fd);
    if (oflags & (__WASI_OFLAGS_CREAT | __WASI_OFLAGS_TRUNC) || base & __WASI_RIGHTS_FD_WRITE) return __WASI_ERRNO_ISDIR;
    *opened = ROOT;
    return 0;
}
err __wasi_path_filestat_get(__wasi_fd_t fd, __wasi_lookupflags_t look, const char *path, __wasi_filestat_t *s) {
    return is_root(fd, path) ? __wasi_fd_filestat_get(ROOT, s) : missing(fd);
}
err __wasi_path_filestat_set_times(__wasi_fd_t fd, __wasi_lookupflags_t look, const char *path, __wasi_timestamp_t a,
                                   __wasi_timestamp_t m, __wasi_fstflags_t f) {
    return is_root(fd, path) ? __WASI_ERRNO_ROFS : missing(fd);
}
err __wasi_path_create_directory(__wasi_fd_t fd, const char *path) { return read_only(fd); }
err __wasi_path_link(__wasi_fd_t fd, __wasi_lookupflags_t look, const char *old, __wasi_fd_t to, const char *path) {
    return missing(fd);
}
err __wasi_path_readlink(__wasi_fd_t fd, const char *path, uint8_t *buf, __wasi_size_t n, __wasi_size_t *used) {
    return is_root(fd, path) ? __WASI_ERRNO_INVAL : missing(fd);
}
err __wasi_path_remove_directory(__wasi_fd_t fd, const char *path) { return missing(fd); }
err __wasi_path_rename(__wasi_fd_t fd, const char *old, __wasi_fd_t to, const char *path) { return missing(fd); }
err __wasi_path_symlink(const char *old, __wasi_fd_t fd, const char *path) { return read_only(fd); }
err __wasi_path_unlink_file(__wasi_fd_t fd, const char *path) { return missing(fd); }

/* ---- no sockets */
err __wasi_sock_accept(__wasi_fd_t fd, __wasi_fdflags_t flags, __wasi_fd_t *got) { return of_stream(fd, __WASI_ERRNO_NOTSOCK); }
err __wasi_sock_recv(__wasi_fd_t fd, const __wasi_iovec_t *v, size_t n, __wasi_riflags_t flags, __wasi_size_t *got,
                     __wasi_roflags_t *out) {
    return of_stream(fd, __WASI_ERRNO_NOTSOCK);
}
err __wasi_sock_send(__wasi_fd_t fd, const __wasi_ciovec_t *v, size_t n, __wasi_siflags_t flags, __wasi_size_t *sent) {
    return of_stream(fd, __WASI_ERRNO_NOTSOCK);
}
err __wasi_sock_shutdown(__wasi_fd_t fd, __wasi_sdflags_t how) { return of_stream(fd, __WASI_ERRNO_NOTSOCK); }
