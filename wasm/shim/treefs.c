/* A tree's entries are sorted by their paths, so that a path is found by halving. The entries of a folder are those of the range that
   begins with its path and a slash. Nothing is built when a tree is added: it costs no memory but the block. */
#include "treefs.h"
#include "wire/tree.h"
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

enum { DEVICE_NUMBER = 4 }; /* memfs is 1, the host 2, devices 3 */
enum { HEAD_BYTES = 24, ENTRY_BYTES = 28 };
#define CHANGED 315532800000000000u /* 1980-01-01, the earliest time of a zip */

typedef struct {
    char *point;
    const uint8_t *block;
    uint32_t count;
} Tree;
static Tree *trees;
static uint32_t tree_count;

typedef struct {
    const char *path;
    const uint8_t *content;
    uint32_t length, packed, size, check, stored;
} Item;

struct leaf {
    const Tree *tree; /* NULL: a folder that only leads to trees, `path` */
    uint32_t at;      /* number of the entry; `count` for the tree's root */
    Item item;
    uint8_t *inflated; /* of a compressed file; NULL before it is read */
    char path[];
};

/* ---- the block */
static uint32_t number(const uint8_t *p) { return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24; }
static Item item_at(const Tree *tree, uint32_t i) {
    const uint8_t *e = tree->block + HEAD_BYTES + (size_t)i * ENTRY_BYTES;
    return (Item){.path = (const char *)tree->block + number(e),
                  .length = number(e + 4),
                  .content = tree->block + number(e + 8),
                  .packed = number(e + 12),
                  .size = number(e + 16),
                  .check = number(e + 20),
                  .stored = number(e + 24)};
}
static int compare(const Item *item, const char *path, size_t n) {
    size_t shorter = item->length < n ? item->length : n;
    int order = memcmp(item->path, path, shorter);
    return order ? order : item->length < n ? -1 : item->length > n;
}
/* Number of the first entry that is not before a path. */
static uint32_t lower_bound(const Tree *tree, const char *path, size_t n) {
    uint32_t from = 0, to = tree->count;
    while (from < to) {
        uint32_t middle = from + (to - from) / 2;
        Item item = item_at(tree, middle);
        if (compare(&item, path, n) < 0) from = middle + 1;
        else to = middle;
    }
    return from;
}
static int fits(uint32_t at, uint32_t length, size_t n) { return at <= n && length <= n - at; }
static int is_well_formed(const Tree *tree, size_t n) {
    for (uint32_t i = 0; i < tree->count; i++) {
        const uint8_t *e = tree->block + HEAD_BYTES + (size_t)i * ENTRY_BYTES;
        Item item = item_at(tree, i), before = item_at(tree, i ? i - 1 : 0);
        if (!fits(number(e), item.length, n) || !fits(number(e + 8), item.packed, n) || !item.length || item.stored > TREE_FOLDER)
            return 0;
        if (memchr(item.path, 0, item.length) || item.path[item.length - 1] == '/') return 0;
        if (item.stored == TREE_STORED && item.packed != item.size) return 0;
        if (i && compare(&before, item.path, item.length) >= 0) return 0;
    }
    return 1;
}

/* ---- paths */
static const Tree *tree_of(const char *path, const char **rest) {
    for (uint32_t i = 0; i < tree_count; i++) {
        size_t n = strlen(trees[i].point);
        if (strncmp(path, trees[i].point, n) || (path[n] && path[n] != '/')) continue;
        *rest = path[n] ? path + n + 1 : path + n;
        return &trees[i];
    }
    return NULL;
}
/* Whether a folder leads to trees: some point begins with its path and a slash. */
static int leads(const char *path) {
    size_t n = strlen(path);
    for (uint32_t i = 0; n && i < tree_count; i++)
        if (!strncmp(trees[i].point, path, n) && trees[i].point[n] == '/') return 1;
    return 0;
}
int treefs_has(const char *path) {
    for (uint32_t i = 0; i < tree_count; i++) {
        size_t n = strcspn(trees[i].point, "/");
        if (!strncmp(path, trees[i].point, n) && (!path[n] || path[n] == '/')) return 1;
    }
    return 0;
}
fs_err treefs_add(const char *point, const uint8_t *block, size_t n) {
    const char *rest;
    if (n < HEAD_BYTES || n > TREE_MAX_BYTES || memcmp(block, TREE_MAGIC, sizeof TREE_MAGIC - 1)) return FS_INVAL;
    Tree tree = {.block = block, .count = number(block + 16)};
    if (number(block + 20) != n || tree.count > (n - HEAD_BYTES) / ENTRY_BYTES || !is_well_formed(&tree, n)) return FS_INVAL;
    if (!*point || tree_of(point, &rest) || leads(point)) return FS_EXIST;
    Tree *more = realloc(trees, (tree_count + 1) * sizeof *trees);
    if (!more) return FS_NOMEM;
    trees = more;
    if (!(tree.point = malloc(strlen(point) + 1))) return FS_NOMEM;
    strcpy(tree.point, point);
    trees[tree_count++] = tree;
    return 0;
}

/* What is at a path: an entry, a tree's root (number `count`), or a folder that leads to trees (no tree). */
static fs_err locate(const char *path, const Tree **tree, uint32_t *at, Item *item) {
    const char *rest;
    *at = 0;
    *item = (Item){.stored = TREE_FOLDER};
    if (!(*tree = tree_of(path, &rest))) return leads(path) ? 0 : FS_NOENT;
    *at = (*tree)->count;
    if (!*rest) return 0;
    size_t n = strlen(rest);
    *at = lower_bound(*tree, rest, n);
    if (*at < (*tree)->count) *item = item_at(*tree, *at);
    if (*at < (*tree)->count && !compare(item, rest, n)) return 0;
    for (const char *slash = strchr(rest, '/'); slash; slash = strchr(slash + 1, '/')) { /* a file on the way? */
        uint32_t above = lower_bound(*tree, rest, (size_t)(slash - rest));
        Item folder = above < (*tree)->count ? item_at(*tree, above) : (Item){0};
        if (above == (*tree)->count || compare(&folder, rest, (size_t)(slash - rest))) return FS_NOENT;
        if (folder.stored != TREE_FOLDER) return FS_NOTDIR;
    }
    return FS_NOENT;
}
static uint64_t inode(const Tree *tree, uint32_t at) {
    return tree ? (uint64_t)(tree - trees + 1) << 32 | (at == tree->count ? 0 : at + 1) : 1;
}
static void describe(const Tree *tree, uint32_t at, const Item *item, Status *status) {
    *status = (Status){.kind = item->stored == TREE_FOLDER ? FS_KIND_DIRECTORY : FS_KIND_FILE,
                       .device = DEVICE_NUMBER,
                       .inode = inode(tree, at),
                       .size = item->size,
                       .changed = CHANGED};
}
fs_err treefs_find(const char *path, Status *status) {
    const Tree *tree;
    uint32_t at;
    Item item;
    fs_err e = locate(path, &tree, &at, &item);
    if (!e) describe(tree, at, &item, status);
    return e;
}

/* ---- open files and folders */
fs_err treefs_open(const char *path, int flags, Leaf **opened) {
    const Tree *tree;
    uint32_t at;
    Item item;
    fs_err e = locate(path, &tree, &at, &item);
    if (e) return e == FS_NOENT && flags & FS_OPEN_CREATE ? treefs_refusal(path, 0) : e;
    if (flags & FS_OPEN_CREATE && flags & FS_OPEN_EXCLUSIVE) return FS_EXIST;
    if (flags & (FS_OPEN_WRITE | FS_OPEN_CREATE | FS_OPEN_TRUNCATE) && item.stored == TREE_FOLDER) return FS_ISDIR;
    if (flags & FS_OPEN_DIRECTORY && item.stored != TREE_FOLDER) return FS_NOTDIR;
    if (flags & (FS_OPEN_WRITE | FS_OPEN_TRUNCATE)) return FS_ROFS;
    size_t n = tree ? 0 : strlen(path);
    Leaf *leaf = calloc(1, sizeof *leaf + n + 1);
    if (!leaf) return FS_NOMEM;
    leaf->tree = tree;
    leaf->at = at;
    leaf->item = item;
    memcpy(leaf->path, path, n);
    *opened = leaf;
    return 0;
}
void treefs_close(Leaf *leaf) {
    free(leaf->inflated);
    free(leaf);
}

/* Decompresses a whole file. Beyond the size that the entry says, nothing is written. */
static fs_err inflate_all(const Item *item, uint8_t **content) {
    z_stream stream = {.next_in = (uint8_t *)item->content, .avail_in = item->packed};
    uint8_t *p = malloc(item->size ? item->size : 1);
    if (!p) return FS_NOMEM;
    int status = inflateInit2(&stream, -15);
    if (status == Z_OK) {
        stream.next_out = p;
        stream.avail_out = item->size;
        status = inflate(&stream, Z_FINISH);
        inflateEnd(&stream);
    }
    if (status == Z_STREAM_END && stream.total_out == item->size) return *content = p, 0;
    free(p);
    return status == Z_MEM_ERROR ? FS_NOMEM : FS_IO;
}
/* The content of a file, looked at for damage once. */
static fs_err content(Leaf *leaf, const uint8_t **p) {
    fs_err e;
    Item *item = &leaf->item;
    if (item->stored == TREE_DEFLATED && !leaf->inflated && (e = inflate_all(item, &leaf->inflated))) return e;
    *p = leaf->inflated ? leaf->inflated : item->content;
    if (item->check && crc32(0, *p, item->size) != item->check) return FS_IO;
    item->check = 0;
    return 0;
}
fs_err treefs_read(Leaf *leaf, uint64_t at, uint8_t *p, size_t n, size_t *got) {
    const uint8_t *from;
    *got = 0;
    fs_err e = content(leaf, &from);
    if (e) return e;
    uint64_t left = at < leaf->item.size ? leaf->item.size - at : 0;
    *got = n < left ? n : (size_t)left;
    if (*got) memcpy(p, from + at, *got);
    return 0;
}
void treefs_status(const Leaf *leaf, Status *status) { describe(leaf->tree, leaf->at, &leaf->item, status); }

/* The name of the next tree, or folder that leads to trees, below a path; each name once. */
static int below(const char *path, size_t *index, Entry *entry) {
    for (size_t n = strlen(path); *index < tree_count; ++*index) {
        const char *point = trees[*index].point, *name = n ? point + n + 1 : point;
        if (n && (strncmp(point, path, n) || point[n] != '/')) continue;
        size_t length = strcspn(name, "/"), seen = 0;
        for (; seen < *index; seen++)
            if (!strncmp(trees[seen].point, point, (size_t)(name - point) + length) &&
                strchr("/", trees[seen].point[(size_t)(name - point) + length]))
                break;
        if (seen < *index) continue;
        *entry =
            (Entry){.name = name, .length = length, .kind = FS_KIND_DIRECTORY, .inode = inode(&trees[*index], trees[*index].count)};
        return 1;
    }
    return 0;
}
int treefs_in_root(size_t index, Entry *entry) {
    size_t at = 0;
    for (; below("", &at, entry); at++)
        if (!index--) return 1;
    *entry = (Entry){0};
    return 0;
}
void treefs_next(const Leaf *leaf, uint64_t cookie, Entry *entry) {
    *entry = (Entry){.next = cookie};
    if (!leaf->tree) {
        size_t index = (size_t)cookie;
        if (cookie < tree_count && below(leaf->path, &index, entry)) entry->next = index + 1;
        return;
    }
    const Tree *tree = leaf->tree;
    const char *path = leaf->at == tree->count ? "" : leaf->item.path;
    size_t n = leaf->at == tree->count ? 0 : leaf->item.length;
    uint64_t first = leaf->at == tree->count ? 0 : leaf->at + 1;
    for (uint64_t i = cookie > first ? cookie : first; i < tree->count; i++) {
        Item item = item_at(tree, (uint32_t)i);
        if (n && (item.length <= n || memcmp(item.path, path, n) || (uint8_t)item.path[n] > '/')) break;
        const char *name = n ? item.path + n + 1 : item.path;
        size_t length = (size_t)(item.path + item.length - name);
        if ((n && item.path[n] != '/') || memchr(name, '/', length)) continue;
        *entry = (Entry){.name = name,
                         .length = length,
                         .kind = item.stored == TREE_FOLDER ? FS_KIND_DIRECTORY : FS_KIND_FILE,
                         .inode = inode(tree, (uint32_t)i),
                         .next = i + 1};
        break;
    }
}

/* ---- changes */
fs_err treefs_refusal(const char *path, int existing) {
    Status status;
    const char *slash = strrchr(path, '/');
    char folder[FS_PATH_BYTES + 1];
    fs_err e = 0;
    if (existing) e = treefs_find(path, &status);
    else if (slash) {
        memcpy(folder, path, (size_t)(slash - path));
        folder[slash - path] = 0;
        if (!(e = treefs_find(folder, &status)) && status.kind != FS_KIND_DIRECTORY) e = FS_NOTDIR;
    }
    return e ? e : FS_ROFS;
}
fs_err treefs_make_directory(const char *path) {
    Status status;
    return treefs_find(path, &status) ? treefs_refusal(path, 0) : FS_EXIST;
}
