/* Every instance maps the snapshot copy on write: each page it writes to costs a fault and 4 KiB of its own. Two things
   scatter writes over the whole heap, and both end here, once, before the snapshot:
   - reference counts of the library's objects: they become immortal (PEP 683), which is what they are anyway;
   - free blocks between them, which malloc would hand out first: they are taken, so that new objects lie together. */
#define PY_SSIZE_T_CLEAN
#define Py_BUILD_CORE 1
#include <Python.h>
#include "pycore_interp.h"
#include "settle.h"
#include <stdlib.h>

static int visit(PyObject *o, void *unused);

static void visit_code(PyCodeObject *code) { /* the collector does not know code objects */
    PyObject *parts[] = {code->co_consts,          code->co_names,    code->co_exceptiontable, code->co_localsplusnames,
                         code->co_localspluskinds, code->co_filename, code->co_name,           code->co_qualname,
                         code->co_linetable};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (parts[i]) visit(parts[i], NULL);
}

/* What the collector tracks comes by itself, so only what it does not track has to be followed. */
static int visit(PyObject *o, void *unused) {
    if (_Py_IsImmortal(o)) return 0;
    o->ob_refcnt = _Py_IMMORTAL_REFCNT;
    if (PyCode_Check(o)) visit_code((PyCodeObject *)o);
    else if (PyObject_IS_GC(o) && !PyObject_GC_IsTracked(o) && Py_TYPE(o)->tp_traverse) Py_TYPE(o)->tp_traverse(o, visit, NULL);
    return 0;
}
static int visit_tracked(PyObject *o, void *unused) {
    visit(o, NULL);
    Py_TYPE(o)->tp_traverse(o, visit, NULL);
    return 1; /* go on */
}

/* The cache of attributes owns the names in it, and may be their last owner. */
static void visit_cached_names(void) {
    struct type_cache *cache = &PyInterpreterState_Get()->types.type_cache;
    for (size_t i = 0; i < sizeof cache->hashtable / sizeof *cache->hashtable; i++)
        if (cache->hashtable[i].name) visit(cache->hashtable[i].name, NULL);
}

/* pymalloc: blocks of one size until they come in a row, which only an empty pool gives; those are given back. */
static void fill_pools(size_t size) {
    enum { ROW = 3000 };
    void *row[ROW / 8 + 1];
    size_t wanted = ROW / size + 1, n = 0;
    while (n < wanted) {
        char *p = PyObject_Malloc(size);
        if (!p) abort();
        if (n && p != (char *)row[n - 1] + size) n = 0;
        row[n++] = p;
    }
    while (n) PyObject_Free(row[--n]);
}

/* malloc: chunks of falling size until they come from the top of the heap. */
static void fill_heap(void) {
    void *top = malloc(1 << 20);
    free(top);
    for (size_t size = 1 << 18; size > 512; size -= size / 8)
        for (void *p; (p = malloc(size));)
            if (p >= top) {
                free(p);
                break;
            }
}

void settle_heap(void) {
    PyGC_Collect();
    PyUnstable_GC_VisitObjects(visit_tracked, NULL);
    visit_cached_names();
    for (size_t size = 8; size <= 512; size += 8) fill_pools(size); /* all of pymalloc's, where pointers have 32 bits */
    fill_heap();
}
