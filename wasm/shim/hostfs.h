/* Files in the host's mounted folders. Each function sends a request; the host resolves every path and checks every operand. */
#ifndef CLOCHE_HOSTFS_H
#define CLOCHE_HOSTFS_H
#include "fs.h"
#include "host.h"
#include "wire/messages.h"

/* Paths are absolute without the leading slash; "" is the root directory. Without mounts the functions return FS_NOENT, and
   those that would write FS_ROFS. */
fs_err hostfs_open(const char *path, int flags, uint64_t *handle, int *kind);
void hostfs_close(uint64_t handle);
fs_err hostfs_read(uint64_t handle, uint64_t at, uint8_t *p, size_t n, size_t *got);
fs_err hostfs_write(uint64_t handle, uint64_t at, const uint8_t *p, size_t n, size_t *put); /* at UINT64_MAX: append */
fs_err hostfs_resize(uint64_t handle, uint64_t size);
fs_err hostfs_status(uint64_t handle, Status *status); /* without device and inode */
fs_err hostfs_touch(uint64_t handle, uint64_t changed);

fs_err hostfs_find(const char *path, Status *status); /* without device and inode */
fs_err hostfs_change(const char *path, uint64_t changed);
fs_err hostfs_path(int ask, const char *path); /* ASK_MKDIR, ASK_UNLINK, ASK_RMDIR */
fs_err hostfs_rename(const char *old, const char *new);

/* Some entries of a directory, in the host's order; free them with page_free. At the end of the directory `used` is 0. */
typedef struct {
    Answer answer;
    size_t at, used; /* at: where the next entry lies in the answer; used: how many entries are left from there on */
} Page;
fs_err page_get(uint64_t handle, int again, Page *page); /* again: begin with the first entry */
int page_next(Page *page, Entry *entry);
void page_free(Page *page);

#endif
