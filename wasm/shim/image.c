/* The entries of the guest image. image_init starts CPython once, while the image is built; the image is a snapshot of memory
   after that. From then on the host calls node_alloc, node_free, node_call and node_check.

   A call: node_call -> answer_message -> codec_decode -> cloche_guest's dispatch -> codec_encode -> check_item. */
#include "boot.h"
#include "check.h"
#include "codec.h"
#include "layout.h"
#include "module.h"
#include "notice.h"
#include "nursery.h"
#include "output.h"
#include "queries.h"
#include "ring.h"
#include "settle.h"

extern const struct _frozen image_frozen[], image_frozen_boot[]; /* generated: the standard library and the guest */
void image_inittab(void);                                        /* generated: numpy's modules */

static const struct _frozen none[] = {{0}};
static const struct _module_alias aliases[] = {
    {"_frozen_importlib", "importlib._bootstrap"}, {"_frozen_importlib_external", "importlib._bootstrap_external"}, {0}};
const struct _frozen *_PyImport_FrozenBootstrap = image_frozen_boot, *_PyImport_FrozenStdlib = image_frozen,
                     *_PyImport_FrozenTest = none, *PyImport_FrozenModules = NULL;
const struct _module_alias *_PyImport_FrozenAliases = aliases;

static void import_or_fail(const char *name) {
    PyObject *m = PyImport_ImportModule(name);
    if (!m) {
        PyErr_Print();
        boot_fail(name, "cannot be imported");
    }
    Py_DECREF(m);
}

EXPORT(image_init) void image_init(void) {
    PyImport_AppendInittab("_cloche", module_init);
    image_inittab();
    layout_begin();
    boot_preinit();
    PyConfig c;
    PyConfig_InitIsolatedConfig(&c);
    c.site_import = 0, c.write_bytecode = 0, c.install_signal_handlers = 0;
    c.use_hash_seed = 1, c.hash_seed = 42; /* part of the snapshot: all instances share it */
    c.use_frozen_modules = 1, c.module_search_paths_set = 1;
    const struct {
        wchar_t **where;
        const wchar_t *what;
    } texts[] = {{&c.home, L"/"},
                 {&c.prefix, L"/"},
                 {&c.exec_prefix, L"/"},
                 {&c.base_prefix, L"/"},
                 {&c.base_exec_prefix, L"/"},
                 {&c.platlibdir, L"lib"},
                 {&c.executable, L""},
                 {&c.base_executable, L""},
                 {&c.program_name, L"node"},
                 {&c.stdlib_dir, L"<cloche>"}};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        boot_check("configure", PyConfig_SetString(&c, texts[i].where, texts[i].what));
    boot_check("initialise", Py_InitializeFromConfig(&c));
    PyConfig_Clear(&c);
    import_or_fail("cloche_system"); /* first, because it completes modules that the others look at */
    import_or_fail("cloche_guest.boot");
    import_or_fail("cloche_fork");
    if (!guest_hooks.dispatch) boot_fail("cloche_guest.boot", "registered no dispatch");
    notice_init();
    queries_init();
    Py_SetRecursionLimit(USUAL_STACK_DEPTH);
    layout_end();
    settle_heap();
    nursery_open();
}

EXPORT(node_alloc) void *node_alloc(uint32_t n) { return malloc(n); }
EXPORT(node_free) void node_free(void *p) { free(p); }

/* Encodes what a hook has returned. Returns address << 32 | length, or 0 with an exception set. */
static uint64_t encode_reply(PyObject *reply) {
    const uint8_t *p;
    size_t n;
    if (!reply || codec_encode(reply, REPLY, "result", &p, &n) < 0) return 0;
    return (uint64_t)(uintptr_t)p << 32 | (uint32_t)n;
}
enum { THE_LAST_OP = -1 };
static uint64_t describe_as(PyObject *error, const char *phase, int op, int last) {
    PyObject *reply = PyObject_CallFunction(guest_hooks.describe, "OsiO", error, phase, op, last ? Py_True : Py_False);
    uint64_t packed = encode_reply(reply);
    Py_XDECREF(reply);
    return packed;
}
/* The reply that describes the exception set. A notice raised meanwhile becomes the failure, and is described with notices off. */
static uint64_t encode_failure(const char *phase, int op) {
    PyObject *error = PyErr_GetRaisedException();
    uint64_t packed = error && guest_hooks.describe ? describe_as(error, phase, op, 0) : 0;
    if (!packed && error && guest_hooks.describe && PyErr_Occurred()) {
        Py_SETREF(error, PyErr_GetRaisedException());
        int before = notice_deaf(1);
        packed = describe_as(error, phase, op, 1);
        notice_deaf(before);
    }
    Py_XDECREF(error);
    if (!packed) PyErr_Clear();
    return packed;
}
static uint64_t answer_message(const uint8_t *p, uint32_t n) {
    int op = n > 1 ? p[1] : 0; /* a request is [op, call, ...] */
    PyObject *message = codec_decode(p, n);
    PyObject *reply = message ? PyObject_CallOneArg(guest_hooks.dispatch, message) : NULL;
    Py_XDECREF(message);
    if (!reply) return encode_failure("call", op);
    notice_clear(); /* the node has returned: a notice that comes now is too late to replace its value by an exception */
    uint64_t packed = encode_reply(reply);
    Py_DECREF(reply);
    return packed ? packed : encode_failure("encode", op);
}
/* Not inlined: node_call itself must not use the shadow stack, which lies in linear memory (imagebuild/link.py). */
static __attribute__((noinline)) uint64_t answer(const uint8_t *p, uint32_t n, int hold) {
    if (!hold) codec_release();
    output_begin_call();
    ring_begin_call();
    uint64_t packed = answer_message(p, n);
    if (notice_raised() && guest_hooks.recover) {
        int before = notice_deaf(1);
        PyObject *done = PyObject_CallNoArgs(guest_hooks.recover);
        if (!done) PyErr_Clear();
        Py_XDECREF(done);
        notice_deaf(before);
    }
    notice_clear();
    return packed;
}

#define REPLY(packed) (const uint8_t *)(uintptr_t)((packed) >> 32), (uint32_t)(packed)

/* The reply for a well-formed value of too many items: the node has failed, not the protocol. */
static __attribute__((noinline)) uint64_t too_many(uint32_t items, uint32_t max_nodes) {
    PyErr_Format(PyExc_ValueError, "result: %u items; the limit value_nodes is %u", items, max_nodes);
    int before = notice_deaf(1);
    uint64_t packed = encode_failure("encode", THE_LAST_OP);
    notice_deaf(before);
    return packed;
}

/* The reply is checked last, on an address and a length in WebAssembly locals: a node that has overwritten all of memory can change
   neither them nor the code of the check. */
EXPORT(node_call) uint64_t node_call(const uint8_t *p, uint32_t n, uint32_t max_nodes, uint32_t max_depth) {
    uint64_t packed = answer(p, n, (max_depth & HOLD_REPLY) != 0);
    if (!packed) return REPLY_NONE;
    max_depth &= ~HOLD_REPLY;
    if (check_item(REPLY(packed), max_nodes, max_depth)) return packed;
    uint32_t items = count_items(REPLY(packed), max_depth);
    if (!items) return REPLY_INVALID;
    packed = too_many(items, max_nodes);
    if (!packed) return REPLY_NONE;
    return check_item(REPLY(packed), max_nodes, max_depth) ? packed : REPLY_INVALID;
}
/* The host calls this before it reads a request of the guest. */
EXPORT(node_check) int32_t node_check(const uint8_t *p, uint32_t n, uint32_t max_nodes, uint32_t max_depth) {
    return check_item(p, n, max_nodes, max_depth);
}
