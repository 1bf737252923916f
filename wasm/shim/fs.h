/* What all files have in common, wherever they lie. The numbers are WASI's; tests/wire/test_numbers.py compares them
   with cloche_wire/files.py. */
#ifndef CLOCHE_FS_H
#define CLOCHE_FS_H
#include <stddef.h>
#include <stdint.h>

typedef uint16_t fs_err; /* 0, or one of these */
enum {
    FS_ACCES = 2,
    FS_BADF = 8,
    FS_BUSY = 10,
    FS_EXIST = 20,
    FS_FBIG = 22,
    FS_INTR = 27,
    FS_INVAL = 28,
    FS_IO = 29,
    FS_ISDIR = 31,
    FS_LOOP = 32,
    FS_MFILE = 33,
    FS_NAMETOOLONG = 37,
    FS_NOENT = 44,
    FS_NOMEM = 48,
    FS_NOSPC = 51,
    FS_NOTDIR = 54,
    FS_NOTEMPTY = 55,
    FS_NOTSUP = 58,
    FS_ROFS = 69,
    FS_SPIPE = 70,
    FS_XDEV = 75,
};

enum { FS_KIND_OTHER = 0, FS_KIND_DIRECTORY = 3, FS_KIND_FILE = 4, FS_KIND_SYMLINK = 7 };

enum {
    FS_OPEN_READ = 1,
    FS_OPEN_WRITE = 2,
    FS_OPEN_CREATE = 4,
    FS_OPEN_EXCLUSIVE = 8,
    FS_OPEN_TRUNCATE = 16,
    FS_OPEN_DIRECTORY = 32,
};

enum { FS_NAME_BYTES = 255, FS_PATH_BYTES = 4096 };

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
