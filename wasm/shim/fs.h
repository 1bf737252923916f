/* What all files have in common, wherever they lie. */
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

/* One entry of a directory. `name` is valid until the next call on the descriptor; 0 bytes long: there is none left. */
typedef struct {
    const char *name;
    size_t length;
    int kind;
    uint64_t inode, next; /* next: the cookie behind it */
} Entry;

#endif
