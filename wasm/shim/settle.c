/* Every instance maps the snapshot copy on write: each page it writes to costs a fault and 4 KiB of its own. Two things would
   scatter writes over the whole heap. Both are ended here, once, before the snapshot:
   - Reference counts of the library's objects. The objects become immortal (PEP 683): no instance ever frees them anyway.
   - Free blocks between these objects, which malloc would hand out first. They are allocated for good, so that new objects lie
     together behind them. */
#define PY_SSIZE_T_CLEAN
#define Py_BUILD_CORE 1
#include <Python.h>
#include "pycore_interp.h"
#include "settle.h"
#include <stdlib.h>

static int visit(PyObject *o, void *unused);

static void visit_code(PyCodeObject *code) { /* the collector does not visit code objects */
    PyObject *parts[] = {code->co_consts,          code->co_names,    code->co_exceptiontable, code->co_localsplusnames,
                         code->co_localspluskinds, code->co_filename, code->co_name,           code->co_qualname,
                         code->co_linetable};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (parts[i]) visit(parts[i], NULL);
}

/* Objects that the collector tracks are visited by visit_tracked; only the others are followed from here. */
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

/* The cache of attributes may be the last owner of the names in it. */
static void visit_cached_names(void) {
    struct type_cache *cache = &PyInterpreterState_Get()->types.type_cache;
    for (size_t i = 0; i < sizeof cache->hashtable / sizeof *cache->hashtable; i++)
        if (cache->hashtable[i].name) visit(cache->hashtable[i].name, NULL);
}

/* Uses up pymalloc's free blocks of one size: allocates until blocks come in a row, which only an empty pool does. The row is
   freed. */
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

/* Uses up malloc's free chunks: allocates falling sizes until the chunks come from the top of the heap. */
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
    for (size_t size = 8; size <= 512; size += 8) fill_pools(size); /* all sizes of pymalloc, where pointers have 32 bits */
    fill_heap();
}
