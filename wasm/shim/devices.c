#include "devices.h"
#include "output.h"
#include "wasi.h"
#include <string.h>

enum { DEVICE_NUMBER = 3 }; /* memfs is 1, the host 2 */
static const struct {
    const char *name;
    Device device;
} devices[] = {{"null", DEVICE_NULL},      {"zero", DEVICE_ZERO},   {"full", DEVICE_FULL},     {"random", DEVICE_RANDOM},
               {"urandom", DEVICE_RANDOM}, {"stdin", DEVICE_STDIN}, {"stdout", DEVICE_STDOUT}, {"stderr", DEVICE_STDERR}};
enum { DEVICES = sizeof devices / sizeof *devices };

Device devices_find(const char *path) {
    if (strncmp(path, "dev", 3)) return DEVICE_NONE;
    if (!path[3]) return DEVICE_FOLDER;
    for (size_t i = 0; path[3] == '/' && i < DEVICES; i++)
        if (!strcmp(path + 4, devices[i].name)) return devices[i].device;
    return DEVICE_NONE;
}
Status devices_status(Device device) {
    return (Status){
        .kind = device == DEVICE_FOLDER ? FS_KIND_DIRECTORY : FS_KIND_DEVICE, .device = DEVICE_NUMBER, .inode = (uint64_t)device};
}
fs_err devices_open(Device device, int flags) {
    if (device == DEVICE_FOLDER) return flags & (FS_OPEN_WRITE | FS_OPEN_CREATE | FS_OPEN_TRUNCATE) ? FS_ISDIR : 0;
    if (flags & FS_OPEN_DIRECTORY) return FS_NOTDIR;
    return (flags & FS_OPEN_CREATE) && (flags & FS_OPEN_EXCLUSIVE) ? FS_EXIST : 0;
}
fs_err devices_read(Device device, uint8_t *p, size_t n, size_t *got) {
    *got = 0;
    if (device == DEVICE_STDOUT || device == DEVICE_STDERR) return FS_BADF;
    if (device == DEVICE_NULL || device == DEVICE_STDIN) return 0; /* ends at once */
    if (device == DEVICE_RANDOM) wasi_random(p, n);
    else memset(p, 0, n);
    *got = n;
    return 0;
}
fs_err devices_write(Device device, const uint8_t *p, size_t n, size_t *put) {
    *put = 0;
    if (device == DEVICE_FULL && n) return FS_NOSPC;
    if (device == DEVICE_STDIN) return FS_BADF;
    if (n && (device == DEVICE_STDOUT || device == DEVICE_STDERR)) output_write(device == DEVICE_STDOUT ? 1 : 2, p, n);
    *put = n;
    return 0;
}
fs_err devices_seek(Device device, uint64_t *at) {
    *at = 0;
    return device >= DEVICE_STDIN ? FS_SPIPE : 0;
}
void devices_next(uint64_t cookie, Entry *entry) {
    *entry = (Entry){.next = cookie};
    if (cookie >= DEVICES) return;
    const char *name = devices[cookie].name;
    *entry = (Entry){name, strlen(name), FS_KIND_DEVICE, (uint64_t)devices[cookie].device, cookie + 1};
}
