/* The file functions of WASI, made of those in files.c. Descriptor 0 is an empty input, 1 and 2 go to output_write, and 3 is the
   root directory. */
#include "files.h"
#include "output.h"
#include "wasi.h"
#include <string.h>
#include <wasi/api.h>

typedef __wasi_errno_t err;

#define IS_WASIS(name) _Static_assert(FS_##name == __WASI_ERRNO_##name, #name);
FS_EACH_ERROR(IS_WASIS)

static int is_stream(__wasi_fd_t fd) { return fd < FILES_ROOT; }

/* ---- content */
err __wasi_fd_write(__wasi_fd_t fd, const __wasi_ciovec_t *v, size_t n, __wasi_size_t *written) {
    *written = 0;
    if (fd == 0) return __WASI_ERRNO_BADF;
    for (size_t i = 0, some; i < n; i++) {
        if (is_stream(fd)) {
            if (v[i].buf_len) output_write((int)fd, v[i].buf, v[i].buf_len);
            some = v[i].buf_len;
        } else {
            err e = files_write((int)fd, v[i].buf, v[i].buf_len, &some);
            if (e) return *written ? 0 : e;
        }
        *written += some;
        if (some < v[i].buf_len) break;
    }
    return n || is_stream(fd) ? 0 : files_write((int)fd, NULL, 0, written);
}
err __wasi_fd_read(__wasi_fd_t fd, const __wasi_iovec_t *v, size_t n, __wasi_size_t *got) {
    *got = 0;
    if (is_stream(fd)) return fd ? __WASI_ERRNO_BADF : 0;
    for (size_t i = 0, some; i < n; i++) {
        err e = files_read((int)fd, v[i].buf, v[i].buf_len, &some);
        if (e) return *got ? 0 : e;
        *got += some;
        if (some < v[i].buf_len) break;
    }
    return n ? 0 : files_read((int)fd, NULL, 0, got);
}
err __wasi_fd_pread(__wasi_fd_t fd, const __wasi_iovec_t *v, size_t n, __wasi_filesize_t at, __wasi_size_t *got) {
    *got = 0;
    if (is_stream(fd)) return __WASI_ERRNO_SPIPE;
    for (size_t i = 0, some; i < n; i++) {
        err e = files_read_at((int)fd, at + *got, v[i].buf, v[i].buf_len, &some);
        if (e) return *got ? 0 : e;
        *got += some;
        if (some < v[i].buf_len) break;
    }
    return 0;
}
err __wasi_fd_pwrite(__wasi_fd_t fd, const __wasi_ciovec_t *v, size_t n, __wasi_filesize_t at, __wasi_size_t *put) {
    *put = 0;
    if (is_stream(fd)) return __WASI_ERRNO_SPIPE;
    for (size_t i = 0, some; i < n; i++) {
        err e = files_write_at((int)fd, at + *put, v[i].buf, v[i].buf_len, &some);
        if (e) return *put ? 0 : e;
        *put += some;
        if (some < v[i].buf_len) break;
    }
    return 0;
}
err __wasi_fd_seek(__wasi_fd_t fd, __wasi_filedelta_t to, __wasi_whence_t whence, __wasi_filesize_t *at) {
    return is_stream(fd) ? __WASI_ERRNO_SPIPE : files_seek((int)fd, to, whence, at);
}
err __wasi_fd_tell(__wasi_fd_t fd, __wasi_filesize_t *at) {
    return is_stream(fd) ? __WASI_ERRNO_SPIPE : files_seek((int)fd, 0, __WASI_WHENCE_CUR, at);
}

/* ---- descriptors. Closing a stream or the root directory does nothing. */
err __wasi_fd_close(__wasi_fd_t fd) { return fd <= FILES_ROOT ? 0 : files_close((int)fd); }
static err known(__wasi_fd_t fd) {
    Mode mode;
    return is_stream(fd) ? 0 : files_mode((int)fd, &mode);
}
err __wasi_fd_sync(__wasi_fd_t fd) { return known(fd); } /* the host alone decides when its disk is written */
err __wasi_fd_datasync(__wasi_fd_t fd) { return known(fd); }
err __wasi_fd_renumber(__wasi_fd_t fd, __wasi_fd_t to) { return __WASI_ERRNO_NOTSUP; }
err __wasi_fd_advise(__wasi_fd_t fd, __wasi_filesize_t at, __wasi_filesize_t n, __wasi_advice_t advice) {
    return is_stream(fd) ? __WASI_ERRNO_SPIPE : known(fd);
}
err __wasi_fd_allocate(__wasi_fd_t fd, __wasi_filesize_t at, __wasi_filesize_t n) {
    Status status;
    if (is_stream(fd)) return __WASI_ERRNO_SPIPE;
    if (!n || at > INT64_MAX || n > INT64_MAX - at) return __WASI_ERRNO_INVAL;
    err e = files_status((int)fd, &status);
    return e || at + n <= status.size ? e : files_resize((int)fd, at + n);
}

/* WASI's rights are not used to refuse anything: memfs and the host decide. */
#define ALL_RIGHTS (((__wasi_rights_t)1 << 30) - 1)
#define WRITING (__WASI_RIGHTS_FD_WRITE | __WASI_RIGHTS_FD_ALLOCATE | __WASI_RIGHTS_FD_FILESTAT_SET_SIZE)
#define READING (__WASI_RIGHTS_FD_READ | __WASI_RIGHTS_FD_READDIR)

err __wasi_fd_fdstat_get(__wasi_fd_t fd, __wasi_fdstat_t *s) {
    Mode mode;
    if (is_stream(fd)) {
        /* without the right to seek, the C library would take a stream for a terminal */
        *s = (__wasi_fdstat_t){.fs_filetype = __WASI_FILETYPE_CHARACTER_DEVICE,
                               .fs_rights_base =
                                   __WASI_RIGHTS_FD_SEEK | __WASI_RIGHTS_FD_TELL |
                                   (fd ? __WASI_RIGHTS_FD_WRITE : __WASI_RIGHTS_FD_READ | __WASI_RIGHTS_FD_FILESTAT_GET)};
        return 0;
    }
    err e = files_mode((int)fd, &mode);
    if (e) return e;
    *s = (__wasi_fdstat_t){.fs_filetype = (uint8_t)mode.kind,
                           .fs_flags = mode.append ? __WASI_FDFLAGS_APPEND : 0,
                           .fs_rights_base = ALL_RIGHTS & ~(mode.reads ? 0 : READING) & ~(mode.writes ? 0 : WRITING),
                           .fs_rights_inheriting = mode.kind == FS_KIND_DIRECTORY ? ALL_RIGHTS : 0};
    return 0;
}
err __wasi_fd_fdstat_set_flags(__wasi_fd_t fd, __wasi_fdflags_t flags) {
    return is_stream(fd) ? 0 : files_set_append((int)fd, (flags & __WASI_FDFLAGS_APPEND) != 0);
}
err __wasi_fd_fdstat_set_rights(__wasi_fd_t fd, __wasi_rights_t base, __wasi_rights_t inheriting) { return __WASI_ERRNO_NOTSUP; }
static void show(const Status *status, __wasi_filestat_t *s) {
    *s = (__wasi_filestat_t){.dev = status->device,
                             .ino = status->inode,
                             .filetype = (uint8_t)status->kind,
                             .nlink = 1,
                             .size = status->size,
                             .atim = status->changed,
                             .mtim = status->changed,
                             .ctim = status->changed};
}
err __wasi_fd_filestat_get(__wasi_fd_t fd, __wasi_filestat_t *s) {
    Status status;
    if (is_stream(fd)) {
        *s = (__wasi_filestat_t){.ino = fd + 1, .nlink = 1, .filetype = __WASI_FILETYPE_CHARACTER_DEVICE};
        return 0;
    }
    err e = files_status((int)fd, &status);
    if (!e) show(&status, s);
    return e;
}
err __wasi_fd_filestat_set_size(__wasi_fd_t fd, __wasi_filesize_t size) {
    return is_stream(fd) ? __WASI_ERRNO_INVAL : files_resize((int)fd, size);
}
static int changes(__wasi_timestamp_t *m, __wasi_fstflags_t f) { /* whether the time of modification is to be set; *m: to what */
    if (f & __WASI_FSTFLAGS_MTIM_NOW) *m = wasi_now();
    return f & (__WASI_FSTFLAGS_MTIM | __WASI_FSTFLAGS_MTIM_NOW);
}
err __wasi_fd_filestat_set_times(__wasi_fd_t fd, __wasi_timestamp_t a, __wasi_timestamp_t m, __wasi_fstflags_t f) {
    if (is_stream(fd)) return __WASI_ERRNO_ROFS;
    return changes(&m, f) ? files_touch((int)fd, m) : 0;
}
err __wasi_fd_prestat_get(__wasi_fd_t fd, __wasi_prestat_t *s) {
    if (fd != FILES_ROOT) return __WASI_ERRNO_BADF;
    *s = (__wasi_prestat_t){.tag = __WASI_PREOPENTYPE_DIR, .u.dir.pr_name_len = 1};
    return 0;
}
err __wasi_fd_prestat_dir_name(__wasi_fd_t fd, uint8_t *path, __wasi_size_t n) {
    if (fd != FILES_ROOT || n < 1) return fd == FILES_ROOT ? __WASI_ERRNO_NAMETOOLONG : __WASI_ERRNO_BADF;
    *path = '/';
    return 0;
}

/* Writes entries until the buffer is full. The last one may be cut off: the C library then asks for it again by its cookie. */
err __wasi_fd_readdir(__wasi_fd_t fd, uint8_t *buf, __wasi_size_t n, __wasi_dircookie_t at, __wasi_size_t *used) {
    Entry entry;
    *used = 0;
    if (is_stream(fd)) return __WASI_ERRNO_NOTDIR;
    for (err e; *used < n; at = entry.next) {
        if ((e = files_next((int)fd, at, &entry))) return *used ? 0 : e;
        if (!entry.length) break;
        __wasi_dirent_t head = {
            .d_next = entry.next, .d_ino = entry.inode, .d_namlen = entry.length, .d_type = (uint8_t)entry.kind};
        size_t some = sizeof head < n - *used ? sizeof head : n - *used;
        memcpy(buf + *used, &head, some);
        *used += some;
        some = entry.length < n - *used ? entry.length : n - *used;
        memcpy(buf + *used, entry.name, some);
        *used += some;
    }
    return 0;
}

/* ---- paths */
err __wasi_path_open(__wasi_fd_t fd, __wasi_lookupflags_t look, const char *path, __wasi_oflags_t oflags, __wasi_rights_t base,
                     __wasi_rights_t inheriting, __wasi_fdflags_t fdflags, __wasi_fd_t *opened) {
    const struct {
        int on, flag;
    } wanted[] = {{oflags & __WASI_OFLAGS_CREAT, FS_OPEN_CREATE},      {oflags & __WASI_OFLAGS_EXCL, FS_OPEN_EXCLUSIVE},
                  {oflags & __WASI_OFLAGS_TRUNC, FS_OPEN_TRUNCATE},    {oflags & __WASI_OFLAGS_DIRECTORY, FS_OPEN_DIRECTORY},
                  {(base & __WASI_RIGHTS_FD_READ) != 0, FS_OPEN_READ}, {(base & __WASI_RIGHTS_FD_WRITE) != 0, FS_OPEN_WRITE}};
    int flags = 0, number;
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++)
        if (wanted[i].on) flags |= wanted[i].flag;
    err e = files_open((int)fd, path, flags, (fdflags & __WASI_FDFLAGS_APPEND) != 0, &number);
    if (!e) *opened = (__wasi_fd_t)number;
    return e;
}
err __wasi_path_filestat_get(__wasi_fd_t fd, __wasi_lookupflags_t look, const char *path, __wasi_filestat_t *s) {
    Status status;
    err e = files_find((int)fd, path, &status);
    if (e) return e;
    if (status.kind == FS_KIND_SYMLINK && look & __WASI_LOOKUPFLAGS_SYMLINK_FOLLOW) return __WASI_ERRNO_LOOP;
    show(&status, s);
    return 0;
}
err __wasi_path_filestat_set_times(__wasi_fd_t fd, __wasi_lookupflags_t look, const char *path, __wasi_timestamp_t a,
                                   __wasi_timestamp_t m, __wasi_fstflags_t f) {
    return changes(&m, f) ? files_change((int)fd, path, m) : 0;
}
err __wasi_path_readlink(__wasi_fd_t fd, const char *path, uint8_t *buf, __wasi_size_t n, __wasi_size_t *used) {
    Status status;
    err e = files_find((int)fd, path, &status);
    return e ? e : status.kind == FS_KIND_SYMLINK ? __WASI_ERRNO_ACCES : __WASI_ERRNO_INVAL;
}
err __wasi_path_create_directory(__wasi_fd_t fd, const char *path) { return files_make_directory((int)fd, path); }
err __wasi_path_remove_directory(__wasi_fd_t fd, const char *path) { return files_remove_directory((int)fd, path); }
err __wasi_path_unlink_file(__wasi_fd_t fd, const char *path) { return files_unlink((int)fd, path); }
err __wasi_path_rename(__wasi_fd_t fd, const char *old, __wasi_fd_t to, const char *path) {
    return files_rename((int)fd, old, (int)to, path);
}
/* neither kind of link can be made: nothing would follow them */
err __wasi_path_link(__wasi_fd_t fd, __wasi_lookupflags_t look, const char *old, __wasi_fd_t to, const char *path) {
    return __WASI_ERRNO_PERM;
}
err __wasi_path_symlink(const char *old, __wasi_fd_t fd, const char *path) { return __WASI_ERRNO_PERM; }
