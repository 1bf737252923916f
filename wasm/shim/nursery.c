/* Why: pymalloc keeps a page of 4 KiB for each of its 64 sizes of blocks, so a node of a few KiB would write to some fifty
   pages, and pay for a copy of each.

   How: a young sandbox takes its small blocks from one room of 64 KiB, one behind the other, whatever their size. Each size has
   a list of its free blocks. When the room is used up, pymalloc takes over for good. A block of the nursery that is then freed
   through pymalloc lies in none of its arenas, so pymalloc hands it to the raw allocator, whose functions here recognise it. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <string.h>
#include "hot.h"
#include "nursery.h"

/* pymalloc */
extern void *_PyObject_Malloc(void *context, size_t n), *_PyObject_Calloc(void *context, size_t count, size_t size),
    *_PyObject_Realloc(void *context, void *block, size_t n);
extern void _PyObject_Free(void *context, void *block);

enum { ROOM = 64 << 10, STEP = 8, LARGEST = 512 }; /* STEP: pymalloc's alignment where pointers have 32 bits */
_Static_assert(sizeof(void *) == 4, "blocks are aligned as those of pymalloc");

static struct {
    void *unused[LARGEST / STEP]; /* by size: the first free block, which points to the next one */
    uint32_t given;               /* bytes of `room` that have been used at least once */
    uint32_t retired;             /* domains that have gone over to pymalloc */
    uint8_t kind[ROOM / STEP];    /* by place: index in `unused` of the block that begins there */
    char room[ROOM] __attribute__((aligned(STEP)));
} nursery AFTER_HOT;

#define KIND(n) (((n) - 1) / STEP)
#define OFFSET(block) ((uint32_t)((uintptr_t)(block) - (uintptr_t)nursery.room))

static PyMemAllocatorEx raw; /* what the raw domain had before: malloc */

static void *young_malloc(void *context, size_t n);

static void give_back(uint32_t at, void *block) {
    void **unused = &nursery.unused[nursery.kind[at / STEP]];
    *(void **)block = *unused;
    *unused = block;
}
static void young_free(void *context, void *block) {
    uint32_t at = OFFSET(block);
    if (at < ROOM) give_back(at, block);
    else _PyObject_Free(context, block);
}
static void raw_free(void *context, void *block) {
    uint32_t at = OFFSET(block);
    if (at < ROOM) give_back(at, block);
    else raw.free(raw.ctx, block);
}
static void *raw_realloc(void *context, void *block, size_t n) {
    uint32_t at = OFFSET(block);
    if (at >= ROOM) return raw.realloc(raw.ctx, block, n);
    size_t room = (nursery.kind[at / STEP] + 1) * STEP;
    void *moved = raw.malloc(raw.ctx, n);
    if (!moved) return NULL;
    memcpy(moved, block, n < room ? n : room);
    give_back(at, block);
    return moved;
}
static void *young_realloc(void *context, void *block, size_t n) {
    if (!block) return young_malloc(context, n);
    uint32_t at = OFFSET(block);
    if (at >= ROOM) return _PyObject_Realloc(context, block, n);
    size_t room = (nursery.kind[at / STEP] + 1) * STEP;
    if (n <= room && n > room - room / 4) return block;
    void *moved = young_malloc(context, n);
    if (!moved) return NULL;
    memcpy(moved, block, n < room ? n : room);
    give_back(at, block);
    return moved;
}

static const PyMemAllocatorDomain domains[] = {PYMEM_DOMAIN_MEM, PYMEM_DOMAIN_OBJ};

/* Let pymalloc make new blocks. Where tracemalloc has put itself in front, it stays there and goes on calling the functions
   here. */
static void retire(void) {
    if (nursery.retired == sizeof domains / sizeof *domains) return;
    PyMemAllocatorEx now, grown = {NULL, _PyObject_Malloc, _PyObject_Calloc, _PyObject_Realloc, _PyObject_Free};
    for (size_t i = 0; i < sizeof domains / sizeof *domains; i++) {
        PyMem_GetAllocator(domains[i], &now);
        if (now.malloc != young_malloc) continue;
        PyMem_SetAllocator(domains[i], &grown);
        nursery.retired++;
    }
}

/* A block from the part of the room that has never been used. */
static __attribute__((noinline)) void *first_use(void *context, size_t n) {
    uint32_t at = nursery.given, size = (KIND(n) + 1) * STEP;
    if (at + size > ROOM) {
        retire();
        return _PyObject_Malloc(context, n);
    }
    nursery.given = at + size;
    nursery.kind[at / STEP] = (uint8_t)KIND(n);
    return nursery.room + at;
}
static void *young_malloc(void *context, size_t n) {
    if (n - 1 >= LARGEST) return _PyObject_Malloc(context, n);
    void **unused = &nursery.unused[KIND(n)], *block = *unused;
    if (!block) return first_use(context, n);
    *unused = *(void **)block;
    return block;
}
static void *young_calloc(void *context, size_t count, size_t size) {
    if (!count || size - 1 >= LARGEST || count > LARGEST / size) return _PyObject_Calloc(context, count, size);
    void *block = young_malloc(context, count * size);
    if (block) memset(block, 0, count * size);
    return block;
}

void nursery_open(void) {
    PyMem_GetAllocator(PYMEM_DOMAIN_RAW, &raw);
    PyMemAllocatorEx known = {raw.ctx, raw.malloc, raw.calloc, raw_realloc, raw_free};
    PyMem_SetAllocator(PYMEM_DOMAIN_RAW, &known);
    PyMemAllocatorEx young = {NULL, young_malloc, young_calloc, young_realloc, young_free};
    for (size_t i = 0; i < sizeof domains / sizeof *domains; i++) PyMem_SetAllocator(domains[i], &young);
}
