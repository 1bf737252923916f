#include "files.h"
#include "devices.h"
#include "hostfs.h"
#include "memfs.h"
#include "treefs.h"
#include <stdlib.h>
#include <string.h>

enum { DEVICE_HOST = 2 };
static const char scratch[] = "tmp"; /* of what the host has not, the root lists this alone */

typedef struct {
    int holders; /* descriptors that share this */
    Mode mode;
    uint64_t at;     /* position in a file; in a directory the number of entries shown */
    Mem *mem;        /* a file of memfs, or NULL */
    Leaf *leaf;      /* a file of a tree, or NULL */
    Device device;   /* DEVICE_NONE and neither of both: a file of the host */
    uint64_t handle; /* of the host's file; 0 for the root directory until it is listed */
    Page page;       /* entries that the host has sent and that are not shown yet */
    int ended, tail; /* ended: the host has no more entries; tail: how many were shown behind them */
    Entry shown;     /* kept: a caller without room for it comes back for the same entry */
    char path[];     /* absolute, without the leading slash */
} File;
static File *files[FILES_MAX - FILES_FIRST];

static File *file_at(int fd) { return fd >= FILES_FIRST && fd < FILES_MAX ? files[fd - FILES_FIRST] : NULL; }

/* ---- paths */
typedef struct {
    char text[FS_PATH_BYTES + 1]; /* absolute, without the leading slash, and with no empty, "." or ".." component */
    size_t length;
    int must_be_directory; /* the path given ends in a slash or a dot */
} Path;

static int lies_in(const char *path, const char *folder) {
    size_t n = strlen(folder);
    return !strncmp(path, folder, n) && (!path[n] || path[n] == '/');
}
/* Whether a path is memfs's. A mount at or below /home puts the node's own home out of sight. */
static int in_scratch(const char *path) {
    Status status;
    if (!memfs_exists()) return 0;
    if (lies_in(path, scratch)) return 1;
    return (!strcmp(path, "home") || lies_in(path, "home/node")) && hostfs_find("home", &status);
}

/* Inodes of the host's files are FNV-1a hashes of their paths: guests do not see the host's own numbers. */
#define FNV 0xcbf29ce484222325u
static uint64_t hash(uint64_t so_far, const char *p, size_t n) {
    for (size_t i = 0; i < n; i++) so_far = (so_far ^ (uint8_t)p[i]) * 0x100000001b3u;
    return so_far;
}
static fs_err find(const char *path, Status *status) {
    Mem *node;
    fs_err e = 0;
    Device device = devices_find(path);
    if (device) return *status = devices_status(device), 0;
    if (in_scratch(path)) {
        if (!(e = memfs_find(path, &node))) memfs_status(node, status);
        return e;
    }
    if (treefs_has(path)) return treefs_find(path, status);
    if (*path) e = hostfs_find(path, status);
    else *status = (Status){.kind = FS_KIND_DIRECTORY};
    status->device = DEVICE_HOST;
    status->inode = hash(FNV, path, strlen(path));
    return e;
}
static fs_err is_directory(const char *path) {
    Status status;
    fs_err e = find(path, &status);
    return e ? e : status.kind == FS_KIND_DIRECTORY ? 0 : FS_NOTDIR;
}
static fs_err up(Path *clean) {
    fs_err e = clean->length ? is_directory(clean->text) : 0;
    if (e) return e;
    while (clean->length && clean->text[clean->length - 1] != '/') clean->length--;
    if (clean->length) clean->length--;
    clean->text[clean->length] = 0;
    return 0;
}
static fs_err down(Path *clean, const char *name, size_t n) { /* one name, or a clean path */
    size_t slash = clean->length != 0;
    if (n + slash > FS_PATH_BYTES - clean->length) return FS_NAMETOOLONG;
    if (slash) clean->text[clean->length++] = '/';
    memcpy(clean->text + clean->length, name, n);
    clean->length += n;
    clean->text[clean->length] = 0;
    return 0;
}
static fs_err resolve(int fd, const char *path, Path *clean) {
    const File *from = file_at(fd);
    clean->length = 0;
    clean->text[0] = 0;
    clean->must_be_directory = 0;
    if (fd != FILES_ROOT && !from) return fd < FILES_ROOT && fd >= 0 ? FS_NOTDIR : FS_BADF;
    if (from && from->mode.kind != FS_KIND_DIRECTORY) return FS_NOTDIR;
    if (!*path) return FS_NOENT;
    fs_err e = from && *from->path && *path != '/' ? down(clean, from->path, strlen(from->path)) : 0;
    while (!e && *path) {
        size_t n = strcspn(path, "/");
        int dots = n == 1 && path[0] == '.' ? 1 : n == 2 && path[0] == '.' && path[1] == '.' ? 2 : 0;
        if (n && !dots) e = n > FS_NAME_BYTES ? FS_NAMETOOLONG : down(clean, path, n);
        else if (dots == 2) e = up(clean);
        path += n;
        clean->must_be_directory = dots || *path;
        path += *path == '/';
    }
    return e;
}
/* For calls on files: a path that ends like a directory's must lead to one. */
static fs_err resolve_file(int fd, const char *path, Path *clean) {
    fs_err e = resolve(fd, path, clean);
    return e || !clean->must_be_directory ? e : is_directory(clean->text);
}

/* ---- open and close */
static fs_err open_host(const char *path, int flags, uint64_t *handle, int *kind) {
    if (*path) return hostfs_open(path, flags, handle, kind);
    if (flags & (FS_OPEN_WRITE | FS_OPEN_CREATE | FS_OPEN_TRUNCATE)) return FS_ISDIR;
    *kind = FS_KIND_DIRECTORY;
    return 0;
}
static fs_err open_into(File *f, int flags) {
    fs_err e;
    if ((f->device = devices_find(f->path))) {
        f->mode.kind = devices_status(f->device).kind;
        return devices_open(f->device, flags);
    }
    if (in_scratch(f->path)) {
        if (!(e = memfs_open(f->path, flags, &f->mem))) {
            Status status;
            memfs_status(f->mem, &status);
            f->mode.kind = status.kind;
        }
        return e;
    }
    if (treefs_has(f->path)) {
        if (!(e = treefs_open(f->path, flags, &f->leaf))) {
            Status status;
            treefs_status(f->leaf, &status);
            f->mode.kind = status.kind;
        }
        return e;
    }
    return open_host(f->path, flags, &f->handle, &f->mode.kind);
}
static int free_slot(void) {
    for (int slot = 0; slot < FILES_MAX - FILES_FIRST; slot++)
        if (!files[slot]) return slot;
    return -1;
}
fs_err files_open(int fd, const char *path, int flags, int append, int *opened) {
    Path clean;
    int slot;
    fs_err e = resolve(fd, path, &clean);
    if (e) return e;
    if (clean.must_be_directory) {
        if (flags & FS_OPEN_CREATE) return FS_ISDIR;
        flags |= FS_OPEN_DIRECTORY;
    }
    if ((slot = free_slot()) < 0) return FS_MFILE;
    File *f = calloc(1, sizeof *f + clean.length + 1);
    if (!f) return FS_NOMEM;
    memcpy(f->path, clean.text, clean.length);
    f->mode = (Mode){.reads = (flags & FS_OPEN_READ) != 0, .writes = (flags & FS_OPEN_WRITE) != 0, .append = append};
    if ((e = open_into(f, flags))) {
        free(f);
        return e;
    }
    f->holders = 1;
    files[slot] = f;
    *opened = FILES_FIRST + slot;
    return 0;
}
fs_err files_dup(int fd, int *opened) {
    File *f = file_at(fd);
    int slot = free_slot();
    if (!f) return fd >= 0 && fd < FILES_FIRST ? FS_NOTSUP : FS_BADF;
    if (slot < 0) return FS_MFILE;
    f->holders++;
    files[slot] = f;
    *opened = FILES_FIRST + slot;
    return 0;
}
fs_err files_close(int fd) {
    File *f = file_at(fd);
    if (!f) return FS_BADF;
    files[fd - FILES_FIRST] = NULL;
    if (--f->holders) return 0;
    if (f->mem) memfs_close(f->mem);
    else if (f->leaf) treefs_close(f->leaf);
    else if (f->handle) hostfs_close(f->handle);
    page_free(&f->page);
    free(f);
    return 0;
}

/* ---- content */
static fs_err content(int fd, int write, File **f) {
    *f = file_at(fd);
    if (!*f) return fd == FILES_ROOT ? FS_ISDIR : FS_BADF;
    if ((*f)->mode.kind == FS_KIND_DIRECTORY) return FS_ISDIR;
    return (write ? (*f)->mode.writes : (*f)->mode.reads) ? 0 : FS_BADF;
}
fs_err files_read_at(int fd, uint64_t at, uint8_t *p, size_t n, size_t *got) {
    File *f;
    *got = 0;
    fs_err e = content(fd, 0, &f);
    if (e) return e;
    if (at > INT64_MAX) return FS_INVAL;
    if (f->device) return devices_read(f->device, p, n, got);
    if (f->leaf) return treefs_read(f->leaf, at, p, n, got);
    return f->mem ? memfs_read(f->mem, at, p, n, got) : hostfs_read(f->handle, at, p, n, got);
}
fs_err files_write_at(int fd, uint64_t at, const uint8_t *p, size_t n, size_t *put) {
    File *f;
    *put = 0;
    fs_err e = content(fd, 1, &f);
    if (e) return e;
    if (at > INT64_MAX) return FS_INVAL;
    if (f->device) return devices_write(f->device, p, n, put);
    return f->mem ? memfs_write(f->mem, at, p, n, put) : hostfs_write(f->handle, at, p, n, put);
}
fs_err files_read(int fd, uint8_t *p, size_t n, size_t *got) {
    File *f = file_at(fd);
    fs_err e = files_read_at(fd, f ? f->at : 0, p, n, got);
    if (!e && !f->device) f->at += *got;
    return e;
}
static fs_err append_to(File *f, const uint8_t *p, size_t n, size_t *put) {
    Status status;
    fs_err e;
    if (f->mem) {
        memfs_status(f->mem, &status);
        e = memfs_write(f->mem, status.size, p, n, put);
        status.size += *put;
    } else if (!(e = hostfs_write(f->handle, UINT64_MAX, p, n, put))) e = hostfs_status(f->handle, &status);
    if (!e) f->at = status.size;
    return e;
}
fs_err files_write(int fd, const uint8_t *p, size_t n, size_t *put) {
    File *f;
    *put = 0;
    fs_err e = content(fd, 1, &f);
    if (e) return e;
    if (f->device) return devices_write(f->device, p, n, put);
    if (f->mode.append) return append_to(f, p, n, put);
    e = files_write_at(fd, f->at, p, n, put);
    f->at += *put;
    return e;
}
fs_err files_seek(int fd, int64_t offset, int whence, uint64_t *at) {
    File *f;
    Status status = {0};
    fs_err e = content(fd, 0, &f);
    if (e == FS_BADF && f) e = 0; /* a file opened only for writing has a position, too */
    if (!e && whence == 2) e = files_status(fd, &status);
    if (e) return e;
    if (f->device) return devices_seek(f->device, at);
    uint64_t base = whence == 0 ? 0 : whence == 1 ? f->at : status.size;
    if (whence > 2 || (offset < 0 ? base < -(uint64_t)offset : base > INT64_MAX - (uint64_t)offset)) return FS_INVAL;
    *at = f->at = base + (uint64_t)offset;
    return 0;
}
fs_err files_resize(int fd, uint64_t size) {
    File *f;
    fs_err e = content(fd, 1, &f);
    if (e) return f && e == FS_BADF ? FS_INVAL : e;
    if (size > INT64_MAX || f->device) return FS_INVAL;
    return f->mem ? memfs_resize(f->mem, size) : hostfs_resize(f->handle, size);
}

/* ---- status and mode of descriptors */
fs_err files_status(int fd, Status *status) {
    const File *f = file_at(fd);
    fs_err e = 0;
    if (f && f->mem) return memfs_status(f->mem, status), 0;
    if (f && f->device) return *status = devices_status(f->device), 0;
    if (f && f->leaf) return treefs_status(f->leaf, status), 0;
    *status = (Status){.kind = FS_KIND_DIRECTORY};
    if (!f && fd != FILES_ROOT) return FS_BADF;
    if (f && f->handle) e = hostfs_status(f->handle, status);
    status->device = DEVICE_HOST;
    status->inode = f ? hash(FNV, f->path, strlen(f->path)) : FNV;
    return e;
}
fs_err files_touch(int fd, uint64_t changed) {
    File *f = file_at(fd);
    if (!f) return fd == FILES_ROOT ? FS_ROFS : FS_BADF;
    if (f->device) return FS_PERM;
    if (!f->mem) return f->handle ? hostfs_touch(f->handle, changed) : FS_ROFS;
    memfs_touch(f->mem, changed);
    return 0;
}
fs_err files_mode(int fd, Mode *mode) {
    const File *f = file_at(fd);
    *mode = f ? f->mode : (Mode){.kind = FS_KIND_DIRECTORY, .reads = 1};
    return f || fd == FILES_ROOT ? 0 : FS_BADF;
}
fs_err files_set_append(int fd, int append) {
    File *f = file_at(fd);
    if (f) f->mode.append = append;
    return f || fd == FILES_ROOT ? 0 : FS_BADF;
}

/* ---- directories */

/* What the root directory has besides the host's entries. */
static void show_own(size_t index, Entry *shown) {
    *shown = (Entry){0};
    if (memfs_exists() && !index--) *shown = (Entry){.name = scratch, .length = sizeof scratch - 1, .kind = FS_KIND_DIRECTORY};
    else (void)treefs_in_root(index, shown);
}
/* Moves `shown` to the next entry of a directory of the host. In the root, those of `show_own` come behind the host's entries. */
static fs_err advance(File *f) {
    int is_root = !*f->path, kind;
    if (is_root && !f->at) (void)hostfs_open("", FS_OPEN_READ | FS_OPEN_DIRECTORY, &f->handle, &kind);
    if (!f->page.used && f->handle && !f->ended) {
        page_free(&f->page);
        fs_err e = page_get(f->handle, f->at == 0, &f->page);
        if (e) return e;
        f->ended = !f->page.used;
    }
    if (!page_next(&f->page, &f->shown)) {
        f->shown = (Entry){0};
        if (is_root) show_own((size_t)f->tail++, &f->shown);
    }
    f->shown.next = ++f->at;
    f->shown.inode = hash(is_root ? FNV : hash(hash(FNV, f->path, strlen(f->path)), "/", 1), f->shown.name, f->shown.length);
    return 0;
}
fs_err files_next(int fd, uint64_t cookie, Entry *entry) {
    File *f = file_at(fd);
    *entry = (Entry){0};
    if (!f) return fd == FILES_ROOT ? 0 : FS_BADF;
    if (f->mode.kind != FS_KIND_DIRECTORY) return FS_NOTDIR;
    if (f->mem) return memfs_next(f->mem, cookie, entry);
    if (f->device) return devices_next(cookie, entry), 0;
    if (f->leaf) return treefs_next(f->leaf, cookie, entry), 0;
    if (cookie + 1 < f->at) { /* rewinddir: begin anew */
        if (!*f->path && f->handle) hostfs_close(f->handle), f->handle = 0;
        page_free(&f->page);
        f->at = 0;
        f->ended = f->tail = 0;
    }
    for (fs_err e; f->at <= cookie;) {
        if ((e = advance(f))) return e;
        if (!f->shown.length) break;
    }
    *entry = f->shown;
    return 0;
}

/* ---- by path */
fs_err files_find(int fd, const char *path, Status *status) {
    Path clean;
    fs_err e = resolve(fd, path, &clean);
    if (!e) e = find(clean.text, status);
    return e || !clean.must_be_directory || status->kind == FS_KIND_DIRECTORY ? e : FS_NOTDIR;
}
fs_err files_change(int fd, const char *path, uint64_t changed) {
    Path clean;
    Mem *node;
    fs_err e = resolve_file(fd, path, &clean);
    if (e) return e;
    if (devices_find(clean.text)) return FS_PERM;
    if (treefs_has(clean.text)) return treefs_refusal(clean.text, 1);
    if (!in_scratch(clean.text)) return *clean.text ? hostfs_change(clean.text, changed) : FS_ROFS;
    if (!(e = memfs_find(clean.text, &node))) memfs_touch(node, changed);
    return e;
}
fs_err files_make_directory(int fd, const char *path) {
    Path clean;
    fs_err e = resolve(fd, path, &clean);
    if (e) return e;
    if (devices_find(clean.text)) return FS_EXIST;
    if (treefs_has(clean.text)) return treefs_make_directory(clean.text);
    return in_scratch(clean.text) ? memfs_make_directory(clean.text) : *clean.text ? hostfs_path(ASK_MKDIR, clean.text) : FS_EXIST;
}
fs_err files_unlink(int fd, const char *path) {
    Path clean;
    fs_err e = resolve_file(fd, path, &clean);
    if (e) return e;
    if (devices_find(clean.text)) return FS_PERM;
    if (treefs_has(clean.text)) return treefs_refusal(clean.text, 0);
    return in_scratch(clean.text) ? memfs_remove(clean.text, FS_KIND_FILE)
           : *clean.text          ? hostfs_path(ASK_UNLINK, clean.text)
                                  : FS_ISDIR;
}
fs_err files_remove_directory(int fd, const char *path) {
    Path clean;
    fs_err e = resolve(fd, path, &clean);
    if (e) return e;
    if (devices_find(clean.text)) return FS_PERM;
    if (treefs_has(clean.text)) return treefs_refusal(clean.text, 0);
    return in_scratch(clean.text) ? memfs_remove(clean.text, FS_KIND_DIRECTORY)
           : *clean.text          ? hostfs_path(ASK_RMDIR, clean.text)
                                  : FS_BUSY;
}
fs_err files_rename(int fd, const char *old, int to, const char *new) {
    Path from, onto;
    fs_err e = resolve_file(fd, old, &from);
    if (!e) e = resolve(to, new, &onto);
    if (e) return e;
    if (!*from.text || !*onto.text) return FS_BUSY;
    if (onto.must_be_directory && (e = is_directory(from.text))) return e;
    if (devices_find(from.text) || devices_find(onto.text)) return FS_PERM;
    if (treefs_has(from.text) != treefs_has(onto.text)) return FS_XDEV;
    if (treefs_has(from.text)) return treefs_refusal(onto.text, 0);
    int is_own = in_scratch(from.text);
    if (is_own != in_scratch(onto.text)) return FS_XDEV;
    return is_own ? memfs_rename(from.text, onto.text) : hostfs_rename(from.text, onto.text);
}
