/* The guest image: CPython as a reactor. image_init runs once, before the snapshot; from then on the host calls
   node_alloc, node_free and node_call, and Python sees the builtin module _cloche. */
#include "boot.h"
#include "check.h"
#include "codec.h"
#include "files.h"
#include "host.h"
#include "hot.h"
#include "layout.h"
#include "memfs.h"
#include "notice.h"
#include "nursery.h"
#include "output.h"
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

static PyObject *dispatch, *describe; /* message -> [reply, value]; (exception, phase, op, last) -> the same */
static PyObject *recover;             /* called after a call in which a notice was raised */
static PyObject *set_recursion_limit; /* sys's own */
static int stack_depth HOT;           /* 0: not configured yet */

/* ---- the module _cloche */
static PyObject *m_register(PyObject *m, PyObject *args) {
    PyObject *call, *encode, *decode, *failure, *mend, *deadline, *cancelled;
    if (!PyArg_ParseTuple(args, "OOOOOOO:register", &call, &encode, &decode, &failure, &mend, &deadline, &cancelled)) return NULL;
    if (codec_set_hooks(encode, decode) < 0 || notice_set_exceptions(deadline, cancelled) < 0) return NULL;
    Py_XSETREF(dispatch, Py_NewRef(call));
    Py_XSETREF(describe, Py_NewRef(failure));
    Py_XSETREF(recover, Py_NewRef(mend));
    PyObject *limit = PyObject_GetAttrString(m, "setrecursionlimit");
    if (!set_recursion_limit) set_recursion_limit = Py_XNewRef(PySys_GetObject("setrecursionlimit"));
    if (!limit || PySys_SetObject("setrecursionlimit", limit) < 0) return Py_XDECREF(limit), NULL;
    Py_DECREF(limit);
    Py_RETURN_NONE;
}
static PyObject *m_configure(PyObject *m, PyObject *args) {
    unsigned long long reply, output;
    unsigned int depth;
    int stack;
    if (!PyArg_ParseTuple(args, "KKIi:configure", &reply, &output, &depth, &stack)) return NULL;
    if (stack_depth) {
        PyErr_SetString(PyExc_RuntimeError, "the limits of this instance are set");
        return NULL;
    }
    codec_set_limits(reply > SIZE_MAX ? SIZE_MAX : (size_t)reply, depth);
    output_set_limit(output);
    stack_depth = stack < 1 ? 1 : stack;
    if (Py_GetRecursionLimit() != stack_depth) Py_SetRecursionLimit(stack_depth);
    Py_RETURN_NONE;
}
/* Stands in for sys.setrecursionlimit. A node that overwrites its interpreter's own counter meets the end of its memory, or of the
   native stack, which traps. */
static PyObject *m_setrecursionlimit(PyObject *m, PyObject *arg) {
    int limit = PyLong_AsInt(arg);
    if (limit == -1 && PyErr_Occurred()) return NULL;
    return PyObject_CallFunction(set_recursion_limit, "i", stack_depth && limit > stack_depth ? stack_depth : limit);
}
static PyObject *m_raise_again(PyObject *m, PyObject *error) {
    notice_again(error);
    Py_RETURN_NONE;
}
static PyObject *m_count_output(PyObject *m, PyObject *arg) {
    unsigned long long n = PyLong_AsUnsignedLongLong(arg);
    if (n == (unsigned long long)-1 && PyErr_Occurred()) return NULL;
    output_count(n > UINT32_MAX ? UINT32_MAX : n);
    Py_RETURN_NONE;
}
static PyObject *m_loads(PyObject *m, PyObject *arg) {
    Py_buffer b;
    if (PyObject_GetBuffer(arg, &b, PyBUF_SIMPLE) < 0) return NULL;
    PyObject *value = codec_decode_inline(b.buf, (size_t)b.len);
    PyBuffer_Release(&b);
    return value;
}
static PyObject *m_dumps(PyObject *m, PyObject *arg) {
    const uint8_t *p;
    size_t n;
    if (codec_encode(arg, IN_LINE, "value", &p, &n) < 0) return NULL;
    return PyBytes_FromStringAndSize((const char *)p, (Py_ssize_t)n);
}
static PyObject *m_emit(PyObject *m, PyObject *arg) {
    const uint8_t *p;
    size_t n;
    if (codec_encode(arg, IN_LINE, "record", &p, &n) < 0) return NULL;
    ring_put(p, (uint32_t)n);
    Py_RETURN_NONE;
}
static PyObject *m_call(PyObject *m, PyObject *arg) {
    const uint8_t *p;
    size_t n, kept = codec_kept();
    if (codec_encode(arg, REQUEST, "request", &p, &n) < 0) return NULL;
    Answer answer = host_ask(p, n);
    codec_release_since(kept);
    if (answer.block) {
        PyObject *value = codec_decode(answer.block, answer.length);
        free(answer.block);
        return value;
    }
    switch (answer.length) {
    case ANSWER_NO_MEMORY: return PyErr_NoMemory();
    case ANSWER_INTERRUPTED:
        if (PyErr_CheckSignals() == 0) PyErr_SetString(PyExc_InterruptedError, "the host stopped waiting for the answer");
        return NULL;
    }
    Py_RETURN_NONE; /* nothing is granted */
}
static PyObject *m_scratch(PyObject *m, PyObject *arg) {
    unsigned long long n = PyLong_AsUnsignedLongLong(arg);
    if (n == (unsigned long long)-1 && PyErr_Occurred()) return NULL;
    memfs_limit(n);
    Py_RETURN_NONE;
}
/* os.dup, which numpy reads and writes files through; the C library has none. */
static PyObject *m_dup(PyObject *m, PyObject *arg) {
    int fd = PyLong_AsInt(arg), opened;
    if (fd == -1 && PyErr_Occurred()) return NULL;
    errno = files_dup(fd, &opened);
    return errno ? PyErr_SetFromErrno(PyExc_OSError) : PyLong_FromLong(opened);
}
/* numpy's legacy generator, without numpy's own seed(), which takes a dozen ufuncs to look at its argument. */
__attribute__((weak)) void mt19937_init_by_array(void *state, uint32_t *key, int length);
static PyObject *m_seed(PyObject *m, PyObject *args) {
    PyObject *capsule;
    Py_buffer seed;
    if (!PyArg_ParseTuple(args, "Oy*:seed_mt19937", &capsule, &seed)) return NULL;
    void **generator = PyCapsule_GetPointer(capsule, "BitGenerator"); /* bitgen_t: its state comes first */
    uint32_t key[16];
    size_t n = (size_t)seed.len < sizeof key ? (size_t)seed.len : sizeof key;
    memcpy(key, seed.buf, n);
    PyBuffer_Release(&seed);
    if (!generator) return NULL;
    if (mt19937_init_by_array) mt19937_init_by_array(*generator, key, (int)(n / sizeof *key));
    Py_RETURN_NONE;
}
static PyMethodDef methods[] = {
    {"register", m_register, METH_VARARGS,
     "register(dispatch, encode, decode, failure, recover, deadline, cancelled): what node_call runs, and the exceptions of notices."},
    {"configure", m_configure, METH_VARARGS,
     "configure(reply_bytes, output_bytes, value_depth, stack_depth): limits of this instance."},
    {"setrecursionlimit", m_setrecursionlimit, METH_O, "Set the recursion limit; what is above stack_depth sets it to that."},
    {"scratch", m_scratch, METH_O, "scratch(bytes): make /tmp, in this instance's own memory."},
    {"dup", m_dup, METH_O, "dup(fd): another descriptor of the same file."},
    {"raise_again", m_raise_again, METH_O,
     "raise_again(error): a notice was raised where nothing can be: raise it at the next check."},
    {"count_output", m_count_output, METH_O, "Add to this call's output; above the limit the guest ends."},
    {"loads", m_loads, METH_O, "Decode one CBOR item."},
    {"dumps", m_dumps, METH_O, "Encode one CBOR item, all of it inline."},
    {"emit", m_emit, METH_O, "Encode a record into the log ring."},
    {"seed_mt19937", m_seed, METH_VARARGS, "seed_mt19937(capsule, bytes): seed a numpy MT19937 through its capsule."},
    {"call", m_call, METH_O, "Ask the host: [ask, *operands] -> [granted, value or failure]; None: nothing is granted."},
    {0}};
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "_cloche", .m_size = -1, .m_methods = methods};

static PyObject *init_module(void) {
    PyObject *m = PyModule_Create(&definition);
    if (m && codec_init(m) < 0) Py_CLEAR(m);
    return m;
}

/* ---- exports */
static void import_or_fail(const char *name) {
    PyObject *m = PyImport_ImportModule(name);
    if (!m) {
        PyErr_Print();
        boot_fail(name, "cannot be imported");
    }
    Py_DECREF(m);
}

EXPORT(image_init) void image_init(void) {
    PyImport_AppendInittab("_cloche", init_module);
    image_inittab();
    layout_begin();
    boot_preinit();
    PyConfig c;
    PyConfig_InitIsolatedConfig(&c);
    c.site_import = 0, c.write_bytecode = 0, c.install_signal_handlers = 0;
    c.use_hash_seed = 1, c.hash_seed = 42; /* baked in: all instances of one snapshot share it */
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
    import_or_fail("cloche_guest.boot");
    if (!dispatch) boot_fail("cloche_guest.boot", "registered no dispatch");
    notice_init();
    Py_SetRecursionLimit(USUAL_STACK_DEPTH);
    layout_end();
    settle_heap();
    nursery_open();
}

EXPORT(node_alloc) void *node_alloc(uint32_t n) { return malloc(n); }
EXPORT(node_free) void node_free(void *p) { free(p); }

/* Encodes what a hook answered; the packed address and length, or 0 with an exception. */
static uint64_t encode_reply(PyObject *reply) {
    const uint8_t *p;
    size_t n;
    if (!reply || codec_encode(reply, REPLY, "result", &p, &n) < 0) return 0;
    return (uint64_t)(uintptr_t)p << 32 | (uint32_t)n;
}
enum { THE_LAST_OP = -1 };
static uint64_t describe_as(PyObject *error, const char *phase, int op, int last) {
    PyObject *reply = PyObject_CallFunction(describe, "OsiO", error, phase, op, last ? Py_True : Py_False);
    uint64_t packed = encode_reply(reply);
    Py_XDECREF(reply);
    return packed;
}
/* A notice may be raised while a failure is described: then the notice is the failure, described by a guest that hears no other. */
static uint64_t encode_failure(const char *phase, int op) {
    PyObject *error = PyErr_GetRaisedException();
    uint64_t packed = error && describe ? describe_as(error, phase, op, 0) : 0;
    if (!packed && error && describe && PyErr_Occurred()) {
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
    PyObject *reply = message ? PyObject_CallOneArg(dispatch, message) : NULL;
    Py_XDECREF(message);
    if (!reply) return encode_failure("call", op);
    notice_clear(); /* the node has answered: what comes too late for it does not take its answer away */
    uint64_t packed = encode_reply(reply);
    Py_DECREF(reply);
    return packed ? packed : encode_failure("encode", op);
}
/* Apart from node_call, so that node_call's own frame has nothing in linear memory. */
static __attribute__((noinline)) uint64_t answer(const uint8_t *p, uint32_t n, int hold) {
    if (!hold) codec_release();
    output_begin_call();
    uint64_t packed = answer_message(p, n);
    if (notice_raised() && recover) {
        int before = notice_deaf(1);
        PyObject *done = PyObject_CallNoArgs(recover);
        if (!done) PyErr_Clear();
        Py_XDECREF(done);
        notice_deaf(before);
    }
    notice_clear();
    return packed;
}

#define REPLY(packed) (const uint8_t *)(uintptr_t)((packed) >> 32), (uint32_t)(packed)

/* A well-formed value of too many items is its node's failure. */
static __attribute__((noinline)) uint64_t too_many(uint32_t items, uint32_t max_nodes) {
    PyErr_Format(PyExc_ValueError, "result: %u items; the limit value_nodes is %u", items, max_nodes);
    int before = notice_deaf(1);
    uint64_t packed = encode_failure("encode", THE_LAST_OP);
    notice_deaf(before);
    return packed;
}

/* The reply is checked last, by code that nothing in memory can change, on values that live in WebAssembly locals. */
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
/* For the host, of a request to it. */
EXPORT(node_check) int32_t node_check(const uint8_t *p, uint32_t n, uint32_t max_nodes, uint32_t max_depth) {
    return check_item(p, n, max_nodes, max_depth);
}
