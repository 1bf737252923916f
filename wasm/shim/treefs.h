/* Read-only trees of files: the granted packages and the node's own folder. Each tree is one block of memory, whose layout
   cloche_wire/tree.py describes. */
#ifndef CLOCHE_TREEFS_H
#define CLOCHE_TREEFS_H
#include "fs.h"

/* Paths are absolute without the leading slash and clean (no empty, "." and ".." component). */

/* Shows a block at a path of one or two components. The caller keeps the block. FS_INVAL: the block is malformed; FS_EXIST: the
   place is taken. */
fs_err treefs_add(const char *point, const uint8_t *block, size_t n);

/* Whether a path is a tree's, or one that only leads to trees ("packages"). The other functions take no other paths. */
int treefs_has(const char *path);
fs_err treefs_find(const char *path, Status *status);

typedef struct leaf Leaf; /* an open file or folder */
fs_err treefs_open(const char *path, int flags, Leaf **opened);
void treefs_close(Leaf *leaf);
fs_err treefs_read(Leaf *leaf, uint64_t at, uint8_t *p, size_t n, size_t *got);
void treefs_status(const Leaf *leaf, Status *status);
void treefs_next(const Leaf *leaf, uint64_t cookie, Entry *entry); /* 0: the first one */

/* The error for a change, as Linux has it on a read-only file system: FS_NOENT if the folder is missing, else FS_ROFS. For a change
   of the file itself (`existing`), FS_NOENT if the file is missing. */
fs_err treefs_refusal(const char *path, int existing);
fs_err treefs_make_directory(const char *path);

/* Entry number `index` of the root directory that leads to trees; 0 after the last one. */
int treefs_in_root(size_t index, Entry *entry);

#endif
