/* Descriptors and paths. Files below /tmp and /home/node are memfs's, those of /dev are devices, granted packages and the node's own
   folder treefs's, all others the host's (hostfs). */
#ifndef CLOCHE_FILES_H
#define CLOCHE_FILES_H
#include "fs.h"

enum {
    FILES_ROOT = 3,  /* the root directory, always open */
    FILES_FIRST = 4, /* 0 to 2 are the standard streams, which wasi_files.c handles */
    FILES_MAX = 128, /* descriptors that a guest may have */
};

/* A relative path begins at the directory `fd`. `..` of a directory that does not exist is FS_NOENT; of the root it is the root. */
fs_err files_open(int fd, const char *path, int flags, int append, int *opened);
fs_err files_close(int fd);
fs_err files_dup(int fd, int *opened); /* both share one position, as with dup(2) */

fs_err files_read(int fd, uint8_t *p, size_t n, size_t *got); /* at the descriptor's position, and moves it */
fs_err files_write(int fd, const uint8_t *p, size_t n, size_t *put);
fs_err files_read_at(int fd, uint64_t at, uint8_t *p, size_t n, size_t *got);
fs_err files_write_at(int fd, uint64_t at, const uint8_t *p, size_t n, size_t *put);
fs_err files_seek(int fd, int64_t offset, int whence, uint64_t *at); /* whence: 0 from the start, 1 from here, 2 from the end */
fs_err files_resize(int fd, uint64_t size);
fs_err files_status(int fd, Status *status);
fs_err files_touch(int fd, uint64_t changed);
fs_err files_next(int fd, uint64_t cookie, Entry *entry); /* the entry behind the cookie; 0: the first one */

typedef struct {
    int kind, reads, writes, append;
} Mode;
fs_err files_mode(int fd, Mode *mode);
fs_err files_set_append(int fd, int append);

fs_err files_find(int fd, const char *path, Status *status);
fs_err files_change(int fd, const char *path, uint64_t changed);
fs_err files_make_directory(int fd, const char *path);
fs_err files_unlink(int fd, const char *path);
fs_err files_remove_directory(int fd, const char *path);
fs_err files_rename(int fd, const char *old, int to, const char *new);

#endif
