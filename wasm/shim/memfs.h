/* The node's private /tmp and /home/node: one tree of files in the guest's own memory. */
#ifndef CLOCHE_MEMFS_H
#define CLOCHE_MEMFS_H
#include "fs.h"

typedef struct mem Mem;

/* As in tmpfs, the memory of files, directories and names counts for the quota; holes in files take none. Beyond the quota is
   FS_NOSPC. Paths are absolute without the leading slash, with no empty, "." or ".." component; "" is the root. */

/* Sets the quota of all files together. With 0 bytes there are neither files nor folders. A quota below what is used only stops
   growth. */
void memfs_limit(uint64_t bytes);
int memfs_exists(void);

/* The file or directory stays until memfs_close, also if it is unlinked meanwhile. */
fs_err memfs_open(const char *path, int flags, Mem **node);
void memfs_close(Mem *node);

fs_err memfs_read(Mem *file, uint64_t at, uint8_t *p, size_t n, size_t *got);
fs_err memfs_write(Mem *file, uint64_t at, const uint8_t *p, size_t n, size_t *put); /* fewer bytes if not all fit the quota */
fs_err memfs_resize(Mem *file, uint64_t size);
fs_err memfs_next(Mem *directory, uint64_t cookie, Entry *entry); /* 0 is before the first */
void memfs_status(const Mem *node, Status *status);
void memfs_touch(Mem *node, uint64_t changed);

fs_err memfs_find(const char *path, Mem **node); /* borrowed */
fs_err memfs_make_directory(const char *path);
fs_err memfs_remove(const char *path, int kind); /* kind: FS_KIND_DIRECTORY for an empty directory, else a file */
fs_err memfs_rename(const char *old, const char *new);

#endif
