/* Types that files.c shares with memfs.c and hostfs.c. */
#ifndef CLOCHE_FS_H
#define CLOCHE_FS_H
#include "wire/files.h"
#include <stddef.h>
#include <stdint.h>

typedef uint16_t fs_err; /* 0, or an errno of WASI: one of FS_*, or WASI_EINTR */

typedef struct {
    int kind;
    uint64_t device, inode, size;
    uint64_t changed; /* nanoseconds since 1970 */
} Status;

/* One entry of a directory. `name` is valid until the next call on the descriptor. A name of 0 bytes means the end. */
typedef struct {
    const char *name;
    size_t length;
    int kind;
    uint64_t inode, next; /* next: the cookie of the position behind this entry */
} Entry;

#endif
