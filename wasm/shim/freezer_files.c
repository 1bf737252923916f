/* The file functions of WASI in the freezer: output works, everything else fails with EBADF. */
#include "output.h"
#include <wasi/api.h>

typedef __wasi_errno_t err;

err __wasi_fd_write(__wasi_fd_t fd, const __wasi_ciovec_t *v, size_t n, __wasi_size_t *written) {
    *written = 0;
    for (size_t i = 0; i < n; i++) {
        if (v[i].buf_len) output_write((int)fd, v[i].buf, v[i].buf_len);
        *written += v[i].buf_len;
    }
    return 0;
}

#define NONE(name, ...) \
    err __wasi_##name(__VA_ARGS__) { return __WASI_ERRNO_BADF; }
NONE(fd_read, __wasi_fd_t fd, const __wasi_iovec_t *v, size_t n, __wasi_size_t *got)
NONE(fd_pread, __wasi_fd_t fd, const __wasi_iovec_t *v, size_t n, __wasi_filesize_t at, __wasi_size_t *got)
NONE(fd_pwrite, __wasi_fd_t fd, const __wasi_ciovec_t *v, size_t n, __wasi_filesize_t at, __wasi_size_t *put)
NONE(fd_seek, __wasi_fd_t fd, __wasi_filedelta_t to, __wasi_whence_t whence, __wasi_filesize_t *at)
NONE(fd_tell, __wasi_fd_t fd, __wasi_filesize_t *at)
NONE(fd_close, __wasi_fd_t fd)
NONE(fd_sync, __wasi_fd_t fd)
NONE(fd_datasync, __wasi_fd_t fd)
NONE(fd_renumber, __wasi_fd_t fd, __wasi_fd_t to)
NONE(fd_advise, __wasi_fd_t fd, __wasi_filesize_t at, __wasi_filesize_t n, __wasi_advice_t advice)
NONE(fd_allocate, __wasi_fd_t fd, __wasi_filesize_t at, __wasi_filesize_t n)
NONE(fd_fdstat_get, __wasi_fd_t fd, __wasi_fdstat_t *s)
NONE(fd_fdstat_set_flags, __wasi_fd_t fd, __wasi_fdflags_t flags)
NONE(fd_fdstat_set_rights, __wasi_fd_t fd, __wasi_rights_t base, __wasi_rights_t inheriting)
NONE(fd_filestat_get, __wasi_fd_t fd, __wasi_filestat_t *s)
NONE(fd_filestat_set_size, __wasi_fd_t fd, __wasi_filesize_t size)
NONE(fd_filestat_set_times, __wasi_fd_t fd, __wasi_timestamp_t a, __wasi_timestamp_t m, __wasi_fstflags_t f)
NONE(fd_prestat_get, __wasi_fd_t fd, __wasi_prestat_t *s)
NONE(fd_prestat_dir_name, __wasi_fd_t fd, uint8_t *path, __wasi_size_t n)
NONE(fd_readdir, __wasi_fd_t fd, uint8_t *buf, __wasi_size_t n, __wasi_dircookie_t at, __wasi_size_t *used)
NONE(path_open, __wasi_fd_t fd, __wasi_lookupflags_t look, const char *path, __wasi_oflags_t oflags, __wasi_rights_t base,
     __wasi_rights_t inheriting, __wasi_fdflags_t flags, __wasi_fd_t *opened)
NONE(path_filestat_get, __wasi_fd_t fd, __wasi_lookupflags_t look, const char *path, __wasi_filestat_t *s)
NONE(path_filestat_set_times, __wasi_fd_t fd, __wasi_lookupflags_t look, const char *path, __wasi_timestamp_t a,
     __wasi_timestamp_t m, __wasi_fstflags_t f)
NONE(path_create_directory, __wasi_fd_t fd, const char *path)
NONE(path_link, __wasi_fd_t fd, __wasi_lookupflags_t look, const char *old, __wasi_fd_t to, const char *path)
NONE(path_readlink, __wasi_fd_t fd, const char *path, uint8_t *buf, __wasi_size_t n, __wasi_size_t *used)
NONE(path_remove_directory, __wasi_fd_t fd, const char *path)
NONE(path_rename, __wasi_fd_t fd, const char *old, __wasi_fd_t to, const char *path)
NONE(path_symlink, const char *old, __wasi_fd_t fd, const char *path)
NONE(path_unlink_file, __wasi_fd_t fd, const char *path)
