/* The devices of /dev that need no system, and /dev itself. */
#ifndef CLOCHE_DEVICES_H
#define CLOCHE_DEVICES_H
#include "fs.h"

enum { FS_KIND_DEVICE = 2 }; /* WASI's number of a character device; the host never answers it */

typedef enum {
    DEVICE_NONE,
    DEVICE_FOLDER, /* /dev */
    DEVICE_NULL,
    DEVICE_ZERO,
    DEVICE_FULL,
    DEVICE_RANDOM,
    DEVICE_STDIN,
    DEVICE_STDOUT,
    DEVICE_STDERR,
} Device;

Device devices_find(const char *path); /* absolute, without the leading slash */
Status devices_status(Device device);
fs_err devices_open(Device device, int flags);
fs_err devices_read(Device device, uint8_t *p, size_t n, size_t *got);
fs_err devices_write(Device device, const uint8_t *p, size_t n, size_t *put);
fs_err devices_seek(Device device, uint64_t *at);
void devices_next(uint64_t cookie, Entry *entry); /* of /dev; 0 is before the first */

#endif
