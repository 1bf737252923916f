/* Places blocks that every sandbox writes to side by side while the image is built, so that they share pages.

   The build runs the initialiser twice (imagebuild/layout.py). Both runs allocate alike, so a block is identified by its size
   and by how many requests of that size came before it. The first run notes which block lies where; the build then loads sample
   nodes and compares memory to find the blocks that were written to. The second run reserves places for these blocks at its
   beginning, side by side, and hands them out when their requests come. The places are ordinary blocks of malloc: pymalloc
   passes blocks outside its arenas to free() and realloc().

   After the initialiser, CPython's allocators are put back. tracemalloc has saved the functions here as those to call, and goes
   on calling them; they then only pass calls on. */
#define PY_SSIZE_T_CLEAN
#define Py_BUILD_CORE 1
#include <Python.h>
#include <stdlib.h>
#include <string.h>
#include "layout.h"
#include "layout_numbers.h"
#include "pycore_ceval.h"

#define EXPORT(name) __attribute__((export_name(#name), used))

struct live {
    uint32_t size, nth;
}; /* the block that begins at a place; size 0: none */
struct place {
    uint32_t size, nth, next, block;
}; /* next: index of the next place of the same bucket; 0: none */

/* The build fills this in before it runs the initialiser. All zero: nothing is noted or reserved. */
static struct {
    uint32_t *counts;  /* by bucket: requests so far; LAYOUT_BUCKETS of them */
    struct live *live; /* first run: one for every LAYOUT_GRAIN bytes from heap on */
    uint32_t heap, live_count;
    struct place *places; /* second run; the first is not used */
    uint32_t place_count;
    uint32_t *first; /* by bucket: index of the next place; LAYOUT_BUCKETS of them */
} layout;

static PyMemAllocatorEx own[3];
static const PyMemAllocatorDomain domains[] = {PYMEM_DOMAIN_RAW, PYMEM_DOMAIN_MEM, PYMEM_DOMAIN_OBJ};
static int inside; /* in a request already: a large object asks for raw memory in turn, which is not counted */

EXPORT(image_layout) void *image_layout(void) { return &layout; }

static uint32_t bucket(size_t n) { return n < LAYOUT_EXACT ? n : LAYOUT_EXACT + (n / 32) % (LAYOUT_BUCKETS - LAYOUT_EXACT); }

static void note(void *block, size_t n, uint32_t nth) {
    uint32_t at = ((uint32_t)(uintptr_t)block - layout.heap) / LAYOUT_GRAIN;
    if (at < layout.live_count) layout.live[at] = (struct live){n, nth};
}

/* The block that is reserved for this request, or NULL. */
static void *reserved(size_t n, uint32_t nth) {
    if (!layout.places) return NULL;
    uint32_t *first = &layout.first[bucket(n)];
    struct place *p = &layout.places[*first];
    if (!*first || p->nth != nth) return NULL;
    *first = p->next;
    return p->size >= n ? (void *)(uintptr_t)p->block : NULL;
}

static void *laid_malloc(void *context, size_t n) {
    PyMemAllocatorEx *a = context;
    if (inside || !layout.counts) return a->malloc(a->ctx, n);
    inside = 1;
    uint32_t nth = layout.counts[bucket(n)]++;
    void *block = reserved(n, nth);
    if (!block) block = a->malloc(a->ctx, n);
    note(block, n, nth);
    inside = 0;
    return block;
}
static void *laid_calloc(void *context, size_t count, size_t size) {
    PyMemAllocatorEx *a = context;
    if (inside || !layout.counts || (size && count > PY_SSIZE_T_MAX / size)) return a->calloc(a->ctx, count, size);
    void *block = laid_malloc(context, count * size);
    if (block) memset(block, 0, count * size);
    return block;
}
static void laid_free(void *context, void *block) {
    PyMemAllocatorEx *a = context;
    if (block && !inside) note(block, 0, 0);
    a->free(a->ctx, block);
}
static void *laid_realloc(void *context, void *old, size_t n) {
    PyMemAllocatorEx *a = context;
    if (!old) return laid_malloc(context, n);
    if (inside || !layout.counts) return a->realloc(a->ctx, old, n);
    inside = 1;
    uint32_t nth = layout.counts[bucket(n)]++;
    void *moved = a->realloc(a->ctx, old, n);
    void *block = moved ? reserved(n, nth) : NULL;
    if (block) {
        memcpy(block, moved, n);
        a->free(a->ctx, moved);
        moved = block;
    }
    if (moved) {
        note(old, 0, 0);
        note(moved, n, nth);
    }
    inside = 0;
    return moved;
}

void layout_begin(void) {
    if (!layout.counts) return;
    for (uint32_t i = 1; i < layout.place_count; i++) {
        void *block = malloc(layout.places[i].size);
        if (!block) abort();
        layout.places[i].block = (uint32_t)(uintptr_t)block;
    }
    for (size_t i = 0; i < sizeof domains / sizeof *domains; i++) {
        PyMem_GetAllocator(domains[i], &own[i]);
        PyMemAllocatorEx laid = {&own[i], laid_malloc, laid_calloc, laid_realloc, laid_free};
        PyMem_SetAllocator(domains[i], &laid);
    }
}

void layout_end(void) {
    if (!layout.counts) return;
    for (size_t i = 0; i < sizeof domains / sizeof *domains; i++) PyMem_SetAllocator(domains[i], &own[i]);
    memset(&layout, 0, sizeof layout);
}

/* Comparing memory does not show all code objects that were written to: a conditional jump writes its history into the bytecode,
   and often writes the value that was there. So the build asks which code objects were run. */
static struct {
    PyCodeObject **codes;
    uint32_t room, count;
} watch;

static PyObject *watched_frame(PyThreadState *thread, struct _PyInterpreterFrame *frame, int throwing) {
    PyObject *code = PyUnstable_InterpreterFrame_GetCode(frame);
    if (watch.count < watch.room) watch.codes[watch.count++] = (PyCodeObject *)code;
    Py_DECREF(code);
    return _PyEval_EvalFrameDefault(thread, frame, throwing);
}

/* The build calls this after the first run: from then on the code object of every frame is noted. */
EXPORT(image_watch) void *image_watch(PyCodeObject **codes, uint32_t room) {
    watch.codes = codes, watch.room = room;
    _PyInterpreterState_SetEvalFrameFunc(PyInterpreterState_Get(), watched_frame);
    return &watch.count;
}
