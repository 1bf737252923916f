/* A file is a table of blocks of 4 KiB; NULL in it is a hole. A directory is a list of its entries in the order of their
   creation. */
#include "memfs.h"
#include "wasi.h"
#include <stdlib.h>
#include <string.h>

enum { BLOCK = 4096 };
#define MAX_SIZE ((uint64_t)INT32_MAX)

struct mem {
    int kind, holders;
    int is_fixed;         /* always there: it can be neither removed nor renamed */
    Mem *parent;          /* NULL: the root, or unlinked */
    Mem *previous, *next; /* siblings, in the order of `serial` */
    Mem *first, *last;    /* a directory's entries */
    uint64_t serial;      /* grows with each entry that any directory gets; as a cookie it stays valid when entries are unlinked */
    uint64_t inode, size, changed;
    uint8_t **blocks; /* a file's content; NULL: a hole */
    size_t slots;
    char *name;
};

/* The folders that are always there take no memory of their own. */
static Mem root, tmp_folder, home_folder, node_folder;
static Mem root = {
    .kind = FS_KIND_DIRECTORY, .is_fixed = 1, .inode = 1, .first = &tmp_folder, .last = &home_folder, .name = (char *)""};
static Mem tmp_folder = {.kind = FS_KIND_DIRECTORY,
                         .is_fixed = 1,
                         .inode = 2,
                         .serial = 1,
                         .parent = &root,
                         .next = &home_folder,
                         .name = (char *)"tmp"};
static Mem home_folder = {.kind = FS_KIND_DIRECTORY,
                          .is_fixed = 1,
                          .inode = 3,
                          .serial = 2,
                          .parent = &root,
                          .previous = &tmp_folder,
                          .first = &node_folder,
                          .last = &node_folder,
                          .name = (char *)"home"};
static Mem node_folder = {
    .kind = FS_KIND_DIRECTORY, .is_fixed = 1, .inode = 4, .serial = 3, .parent = &home_folder, .name = (char *)"node"};

static struct {
    uint64_t limit, used, serials;
} tmp = {.serials = 4};

/* ---- memory, charged to the quota */
static int charge(uint64_t n) {
    if (n > tmp.limit || tmp.used > tmp.limit - n) return -1;
    tmp.used += n;
    return 0;
}
static void *take(size_t n) {
    if (charge(n)) return NULL;
    void *p = calloc(1, n);
    if (!p) tmp.used -= n;
    return p;
}
static void give_back(void *p, size_t n) {
    if (!p) return;
    free(p);
    tmp.used -= n;
}

static void drop_blocks(Mem *file, size_t from) {
    for (size_t i = from; i < file->slots; i++) {
        give_back(file->blocks[i], BLOCK);
        file->blocks[i] = NULL;
    }
}
static void destroy(Mem *node) {
    if (node->parent || node->holders || node->is_fixed) return;
    drop_blocks(node, 0);
    give_back(node->blocks, node->slots * sizeof *node->blocks);
    give_back(node->name, strlen(node->name) + 1);
    give_back(node, sizeof *node);
}

/* ---- the tree */
static char *named(const char *name, size_t length) {
    char *copy = take(length + 1);
    if (copy) memcpy(copy, name, length);
    return copy;
}
static void link_into(Mem *directory, Mem *node) {
    node->parent = directory;
    node->serial = ++tmp.serials;
    node->previous = directory->last;
    node->next = NULL;
    *(directory->last ? &directory->last->next : &directory->first) = node;
    directory->last = node;
    directory->changed = wasi_now();
}
static void unlink_from(Mem *node) {
    Mem *directory = node->parent;
    *(node->previous ? &node->previous->next : &directory->first) = node->next;
    *(node->next ? &node->next->previous : &directory->last) = node->previous;
    node->parent = node->previous = node->next = NULL;
    directory->changed = wasi_now();
}
static Mem *child(const Mem *directory, const char *name, size_t length) {
    for (Mem *node = directory->first; node; node = node->next)
        if (!strncmp(node->name, name, length) && !node->name[length]) return node;
    return NULL;
}
static Mem *make(int kind, const char *name, size_t length) {
    Mem *node = take(sizeof *node);
    if (!node) return NULL;
    if (!(node->name = named(name, length))) {
        give_back(node, sizeof *node);
        return NULL;
    }
    node->kind = kind;
    node->inode = ++tmp.serials;
    node->changed = wasi_now();
    return node;
}

/* The directory that the last component of `path` lies in, and that component. For the root, which lies in none, FS_BUSY. */
static fs_err parent_of(const char *path, Mem **directory, const char **name) {
    Mem *at = &root;
    if (!memfs_exists()) return FS_NOENT;
    if (!*path) return FS_BUSY;
    for (const char *slash; (slash = strchr(path, '/')); path = slash + 1) {
        if (!(at = child(at, path, (size_t)(slash - path)))) return FS_NOENT;
        if (at->kind != FS_KIND_DIRECTORY) return FS_NOTDIR;
    }
    *directory = at;
    *name = path;
    return strlen(path) > FS_NAME_BYTES ? FS_NAMETOOLONG : 0;
}
fs_err memfs_find(const char *path, Mem **node) {
    if (memfs_exists() && !*path) return *node = &root, 0;
    Mem *directory;
    const char *name;
    fs_err e = parent_of(path, &directory, &name);
    if (e) return e;
    *node = child(directory, name, strlen(name));
    return *node ? 0 : FS_NOENT;
}

void memfs_limit(uint64_t bytes) {
    if (!root.changed) root.changed = tmp_folder.changed = home_folder.changed = node_folder.changed = wasi_now();
    tmp.limit = bytes;
}
int memfs_exists(void) { return tmp.limit != 0; }

/* ---- open files and directories */
static fs_err create(const char *path, Mem **node) {
    Mem *directory;
    const char *name;
    fs_err e = parent_of(path, &directory, &name);
    if (e) return e;
    if (!(*node = make(FS_KIND_FILE, name, strlen(name)))) return FS_NOSPC;
    link_into(directory, *node);
    return 0;
}
fs_err memfs_open(const char *path, int flags, Mem **node) {
    fs_err e = memfs_find(path, node);
    if (e == FS_NOENT && flags & FS_OPEN_CREATE) e = create(path, node);
    else if (!e && flags & FS_OPEN_CREATE && flags & FS_OPEN_EXCLUSIVE) e = FS_EXIST;
    if (e) return e;
    if ((*node)->kind == FS_KIND_DIRECTORY) {
        if (flags & (FS_OPEN_WRITE | FS_OPEN_CREATE | FS_OPEN_TRUNCATE)) return FS_ISDIR;
    } else {
        if (flags & FS_OPEN_DIRECTORY) return FS_NOTDIR;
        if (flags & FS_OPEN_TRUNCATE) memfs_resize(*node, 0);
    }
    (*node)->holders++;
    return 0;
}
void memfs_close(Mem *node) {
    node->holders--;
    destroy(node);
}

fs_err memfs_read(Mem *file, uint64_t at, uint8_t *p, size_t n, size_t *got) {
    uint64_t left = at < file->size ? file->size - at : 0;
    *got = n = n < left ? n : (size_t)left;
    for (size_t some; n; p += some, at += some, n -= some) {
        size_t i = (size_t)(at / BLOCK), from = (size_t)(at % BLOCK);
        const uint8_t *block = i < file->slots ? file->blocks[i] : NULL;
        some = BLOCK - from < n ? BLOCK - from : n;
        if (block) memcpy(p, block + from, some);
        else memset(p, 0, some);
    }
    return 0;
}

/* The block with index i, which is made if it is a hole; NULL beyond the quota. */
static uint8_t *block_at(Mem *file, size_t i) {
    if (i >= file->slots) {
        size_t slots = 2 * file->slots > i ? 2 * file->slots : i + 4;
        uint8_t **blocks = take(slots * sizeof *blocks);
        if (!blocks) return NULL;
        if (file->slots) memcpy(blocks, file->blocks, file->slots * sizeof *blocks);
        give_back(file->blocks, file->slots * sizeof *blocks);
        file->blocks = blocks;
        file->slots = slots;
    }
    if (!file->blocks[i]) file->blocks[i] = take(BLOCK);
    return file->blocks[i];
}
fs_err memfs_write(Mem *file, uint64_t at, const uint8_t *p, size_t n, size_t *put) {
    *put = 0;
    if (at > MAX_SIZE || n > MAX_SIZE - at) return FS_FBIG;
    while (*put < n) {
        size_t from = (size_t)(at % BLOCK), some = BLOCK - from < n - *put ? BLOCK - from : n - *put;
        uint8_t *block = block_at(file, (size_t)(at / BLOCK));
        if (!block) break;
        memcpy(block + from, p + *put, some);
        at += some;
        *put += some;
        if (at > file->size) file->size = at;
    }
    if (*put) file->changed = wasi_now();
    return *put || !n ? 0 : FS_NOSPC;
}
fs_err memfs_resize(Mem *file, uint64_t size) {
    if (size > MAX_SIZE) return FS_FBIG;
    if (size < file->size) {
        size_t whole = (size_t)((size + BLOCK - 1) / BLOCK), rest = (size_t)(size % BLOCK);
        drop_blocks(file, whole);
        if (rest && whole <= file->slots && file->blocks[whole - 1]) memset(file->blocks[whole - 1] + rest, 0, BLOCK - rest);
    }
    file->size = size;
    file->changed = wasi_now();
    return 0;
}
fs_err memfs_next(Mem *directory, uint64_t cookie, Entry *entry) {
    *entry = (Entry){.next = cookie};
    for (const Mem *node = directory->first; node; node = node->next) {
        if (node->serial <= cookie) continue;
        *entry = (Entry){node->name, strlen(node->name), node->kind, node->inode, node->serial};
        break;
    }
    return 0;
}
void memfs_status(const Mem *node, Status *status) {
    *status = (Status){.kind = node->kind, .device = 1, .inode = node->inode, .size = node->size, .changed = node->changed};
}
void memfs_touch(Mem *node, uint64_t changed) { node->changed = changed; }

/* ---- by path */
fs_err memfs_make_directory(const char *path) {
    Mem *directory, *node;
    const char *name;
    if (!memfs_find(path, &node)) return FS_EXIST;
    fs_err e = parent_of(path, &directory, &name);
    if (e) return e;
    if (!(node = make(FS_KIND_DIRECTORY, name, strlen(name)))) return FS_NOSPC;
    link_into(directory, node);
    return 0;
}
static fs_err removable(const Mem *node, int kind) {
    if (node->is_fixed) return FS_BUSY;
    if (kind == FS_KIND_DIRECTORY && node->kind != kind) return FS_NOTDIR;
    if (kind != FS_KIND_DIRECTORY && node->kind == FS_KIND_DIRECTORY) return FS_ISDIR;
    return node->first ? FS_NOTEMPTY : 0;
}
fs_err memfs_remove(const char *path, int kind) {
    Mem *node;
    fs_err e = memfs_find(path, &node);
    if (!e) e = removable(node, kind);
    if (e) return e;
    unlink_from(node);
    destroy(node);
    return 0;
}
fs_err memfs_rename(const char *old, const char *new) {
    Mem *node, *directory, *target;
    const char *name;
    fs_err from = parent_of(old, &directory, &name), to = parent_of(new, &directory, &name);
    if (from == FS_NOENT || from == FS_NOTDIR) return from; /* as in Linux: both parents are looked up before what is in them */
    if (to == FS_NOENT || to == FS_NOTDIR) return to;
    fs_err e = memfs_find(old, &node);
    if (!e) e = to;
    if (e) return e;
    if (node->is_fixed) return FS_BUSY;
    for (const Mem *at = directory; at; at = at->parent)
        if (at == node) return FS_INVAL;
    target = child(directory, name, strlen(name));
    if (target == node) return 0;
    if (target && (e = removable(target, node->kind))) return e;
    char *renamed = named(name, strlen(name));
    if (!renamed) return FS_NOSPC;
    if (target) {
        unlink_from(target);
        destroy(target);
    }
    unlink_from(node);
    give_back(node->name, strlen(node->name) + 1);
    node->name = renamed;
    link_into(directory, node);
    return 0;
}
