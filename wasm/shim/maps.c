/* mmap for CPython's module of that name: the content of a file is copied to memory. Of a shared map that may be written, the pages
   that have changed are written back by flush() (msync) and when it is closed (munmap). */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include "files.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { MAP_PAGE = 4096 };

typedef struct map {
    struct map *next;
    uint8_t *at;
    size_t size;
    int fd; /* the map's own; -1: nothing is written back */
    uint64_t offset;
    uint64_t *sums; /* of each page, as it is in the file */
} Map;
static Map *maps;

static uint64_t sum(const uint8_t *p, size_t n) { /* FNV-1a */
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < n; i++) h = (h ^ p[i]) * 0x100000001b3u;
    return h;
}
static size_t pages(const Map *map) { return (map->size + MAP_PAGE - 1) / MAP_PAGE; }
static size_t page_size(const Map *map, size_t i) {
    size_t left = map->size - i * MAP_PAGE;
    return left < MAP_PAGE ? left : MAP_PAGE;
}
static fs_err fill(int fd, uint64_t offset, uint8_t *p, size_t n) {
    for (size_t got; n; p += got, offset += got, n -= got) {
        fs_err e = files_read_at(fd, offset, p, n, &got);
        if (e || !got) return e;
    }
    return 0;
}
static fs_err take_sums(Map *map, size_t from) {
    uint64_t *sums = realloc(map->sums, pages(map) * sizeof *sums);
    if (!sums) return FS_NOMEM;
    map->sums = sums;
    for (size_t i = from; i < pages(map); i++) sums[i] = sum(map->at + i * MAP_PAGE, page_size(map, i));
    return 0;
}
/* What lies behind the end of the file is not written, as natively. */
static fs_err write_back(Map *map, size_t first, size_t last) {
    Status status;
    fs_err e = map->fd < 0 ? 0 : files_status(map->fd, &status);
    if (e || map->fd < 0) return e;
    for (size_t i = first; i < pages(map) && i * MAP_PAGE < last; i++) {
        const uint8_t *p = map->at + i * MAP_PAGE;
        uint64_t now = sum(p, page_size(map, i)), at = map->offset + i * MAP_PAGE;
        if (now == map->sums[i]) continue;
        uint64_t left = at < status.size ? status.size - at : 0;
        size_t n = left < page_size(map, i) ? (size_t)left : page_size(map, i);
        for (size_t put; n; p += put, at += put, n -= put)
            if ((e = files_write_at(map->fd, at, p, n, &put))) return e;
        map->sums[i] = now;
    }
    return 0;
}
static Map **place_of(const void *at) {
    Map **place = &maps;
    while (*place && !((*place)->at <= (const uint8_t *)at && (const uint8_t *)at < (*place)->at + (*place)->size))
        place = &(*place)->next;
    return place;
}
static void destroy(Map *map) {
    if (map->fd >= 0) (void)files_close(map->fd);
    free(map->sums);
    free(map->at);
    free(map);
}
static fs_err attach(Map *map, int protection, int flags, int fd) {
    Mode mode;
    fs_err e = files_mode(fd, &mode);
    if (e) return e;
    if (mode.kind == FS_KIND_DIRECTORY || !mode.reads) return FS_ACCES;
    int writes_back = (flags & MAP_SHARED) && (protection & PROT_WRITE);
    if (writes_back && !mode.writes) return FS_ACCES;
    if ((e = fill(fd, map->offset, map->at, map->size)) || !writes_back) return e;
    if ((e = files_dup(fd, &map->fd))) return map->fd = -1, e;
    return take_sums(map, 0);
}

void *mmap(void *where, size_t size, int protection, int flags, int fd, off_t offset) {
    Map *map = size && offset >= 0 ? calloc(1, sizeof *map) : NULL;
    fs_err e = !size || offset < 0 ? FS_INVAL : FS_NOMEM;
    if (map && (map->at = calloc(1, size))) {
        map->size = size;
        map->fd = -1;
        map->offset = (uint64_t)offset;
        if (flags & MAP_ANONYMOUS || !(e = attach(map, protection, flags, fd))) {
            map->next = maps;
            maps = map;
            return map->at;
        }
        destroy(map);
    } else free(map);
    errno = e;
    return MAP_FAILED;
}
int munmap(void *at, size_t size) {
    Map **place = place_of(at), *map = *place;
    if (!map) return errno = EINVAL, -1;
    *place = map->next;
    errno = write_back(map, 0, map->size);
    destroy(map);
    return errno ? -1 : 0;
}
int msync(void *at, size_t size, int flags) {
    Map *map = *place_of(at);
    if (!map) return errno = EINVAL, -1;
    size_t from = (size_t)((uint8_t *)at - map->at);
    errno = write_back(map, from / MAP_PAGE, size < map->size - from ? from + size : map->size);
    return errno ? -1 : 0;
}
void *mremap(void *old, size_t old_size, size_t size, int flags, ...) {
    Map *map = *place_of(old);
    if (!map || !size) return errno = EINVAL, MAP_FAILED;
    if ((errno = write_back(map, 0, map->size))) return MAP_FAILED;
    uint8_t *at = realloc(map->at, size);
    if (!at) return errno = ENOMEM, MAP_FAILED;
    size_t before = map->size;
    map->at = at;
    map->size = size;
    if (size > before) memset(at + before, 0, size - before);
    if (map->fd < 0) return at;
    if (size > before) errno = fill(map->fd, map->offset + before, at + before, size - before);
    if (!errno) errno = take_sums(map, before / MAP_PAGE);
    return errno ? MAP_FAILED : at;
}
/* Only an advice, but for the one that has an effect that can be seen. */
int madvise(void *at, size_t size, int advice) {
    Map *map = *place_of(at);
    if (!map) return errno = EINVAL, -1;
    return advice == MADV_DONTNEED ? (errno = ENOSYS, -1) : 0;
}
/* In place of CPython's _Py_dup, which needs a dup that the C library has not. */
int maps_dup(int fd) {
    int opened;
    if ((errno = files_dup(fd, &opened))) {
        PyErr_SetFromErrno(PyExc_OSError);
        return -1;
    }
    return opened;
}
