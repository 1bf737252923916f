/* Each function m_<name> is _cloche.<name>; the table at the end says what it does. */
#include "module.h"
#include "codec.h"
#include "files.h"
#include "host.h"
#include "hot.h"
#include "live.h"
#include "memfs.h"
#include "notice.h"
#include "output.h"
#include "process.h"
#include "ring.h"
#include "treefs.h"
#include "wire/abi.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct guest_hooks guest_hooks;
static PyObject *set_recursion_limit; /* sys.setrecursionlimit as CPython has it */
static int stack_depth HOT;           /* the limit; 0: not configured yet */

static PyObject *m_register(PyObject *m, PyObject *args) {
    PyObject *call, *encode, *decode, *failure, *mend, *deadline, *cancelled;
    if (!PyArg_ParseTuple(args, "OOOOOOO:register", &call, &encode, &decode, &failure, &mend, &deadline, &cancelled)) return NULL;
    if (codec_set_hooks(encode, decode) < 0 || notice_set_exceptions(deadline, cancelled) < 0) return NULL;
    Py_XSETREF(guest_hooks.dispatch, Py_NewRef(call));
    Py_XSETREF(guest_hooks.describe, Py_NewRef(failure));
    Py_XSETREF(guest_hooks.recover, Py_NewRef(mend));
    PyObject *limit = PyObject_GetAttrString(m, "setrecursionlimit");
    if (!set_recursion_limit) set_recursion_limit = Py_XNewRef(PySys_GetObject("setrecursionlimit"));
    if (!limit || PySys_SetObject("setrecursionlimit", limit) < 0) return Py_XDECREF(limit), NULL;
    Py_DECREF(limit);
    Py_RETURN_NONE;
}
static PyObject *m_configure(PyObject *m, PyObject *args) {
    unsigned long long reply, output;
    unsigned int nodes, depth;
    int stack;
    if (!PyArg_ParseTuple(args, "KKIIi:configure", &reply, &output, &nodes, &depth, &stack)) return NULL;
    if (stack_depth) {
        PyErr_SetString(PyExc_RuntimeError, "the limits of this instance are set");
        return NULL;
    }
    codec_set_limits(reply > SIZE_MAX ? SIZE_MAX : (size_t)reply, nodes, depth);
    output_set_limit(output);
    process_begin();
    stack_depth = stack < 1 ? 1 : stack;
    if (Py_GetRecursionLimit() != stack_depth) Py_SetRecursionLimit(stack_depth);
    Py_RETURN_NONE;
}
/* Replaces sys.setrecursionlimit, so that no node raises the limit above stack_depth. A node that overwrites CPython's own counter
   only runs into the end of a stack, which traps. */
static PyObject *m_setrecursionlimit(PyObject *m, PyObject *arg) {
    int limit = PyLong_AsInt(arg);
    if (limit == -1 && PyErr_Occurred()) return NULL;
    return PyObject_CallFunction(set_recursion_limit, "i", stack_depth && limit > stack_depth ? stack_depth : limit);
}
static PyObject *m_raise_again(PyObject *m, PyObject *error) {
    notice_again(error);
    Py_RETURN_NONE;
}
static PyObject *m_on_pause(PyObject *m, PyObject *hook) {
    notice_set_pause(hook);
    Py_RETURN_NONE;
}
static PyObject *m_count_output(PyObject *m, PyObject *arg) {
    unsigned long long n = PyLong_AsUnsignedLongLong(arg);
    if (n == (unsigned long long)-1 && PyErr_Occurred()) return NULL;
    output_count(n > UINT32_MAX ? UINT32_MAX : n);
    Py_RETURN_NONE;
}
static PyObject *m_begin_item(PyObject *m, PyObject *arg) {
    unsigned long number = PyLong_AsUnsignedLong(arg);
    if (number == (unsigned long)-1 && PyErr_Occurred()) return NULL;
    notice_begin_item((uint32_t)number);
    ring_mark((uint32_t)number);
    output_begin_call();
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
static PyObject *m_written(PyObject *m, PyObject *arg) { return codec_written(arg); }
static PyObject *m_emit(PyObject *m, PyObject *arg) {
    const uint8_t *p;
    size_t n;
    if (codec_encode(arg, IN_LINE, "record", &p, &n) < 0) return NULL;
    ring_put(p, (uint32_t)n);
    live_tell();
    Py_RETURN_NONE;
}
static PyObject *m_hold(PyObject *m, PyObject *args) {
    unsigned stream;
    PyObject *record;
    const uint8_t *p = (const uint8_t *)"";
    size_t n = 0;
    if (!PyArg_ParseTuple(args, "IO:hold", &stream, &record)) return NULL;
    if (record != Py_None && codec_encode(record, IN_LINE, "record", &p, &n) < 0) return NULL;
    return PyBool_FromLong(!(n && live_wanted()) && ring_hold(stream, p, (uint32_t)n));
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
static PyObject *m_memory_bytes(PyObject *m, PyObject *none) { return PyLong_FromSize_t(__builtin_wasm_memory_size(0) << 16); }
static PyObject *m_tree(PyObject *m, PyObject *args) {
    static PyObject *kept; /* the blocks of all trees */
    const char *point;
    PyObject *block;
    if (!PyArg_ParseTuple(args, "sS:tree", &point, &block)) return NULL;
    if ((!kept && !(kept = PyList_New(0))) || PyList_Append(kept, block) < 0) return NULL;
    errno = treefs_add(point, (const uint8_t *)PyBytes_AS_STRING(block), (size_t)PyBytes_GET_SIZE(block));
    if (errno) return PyErr_SetFromErrno(PyExc_OSError);
    return PyUnicode_FromFormat("/%s", point);
}
/* os.dup: numpy needs it to read and write files, and the C library has none. */
static PyObject *m_dup(PyObject *m, PyObject *arg) {
    int fd = PyLong_AsInt(arg), opened;
    if (fd == -1 && PyErr_Occurred()) return NULL;
    errno = files_dup(fd, &opened);
    return errno ? PyErr_SetFromErrno(PyExc_OSError) : PyLong_FromLong(opened);
}
/* Seeds numpy's legacy generator directly: numpy's own seed() runs a dozen ufuncs first, to look at its argument. */
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
     "register(dispatch, encode, decode, failure, recover, deadline, cancelled): hooks, and the exceptions of notices."},
    {"configure", m_configure, METH_VARARGS,
     "configure(reply_bytes, output_bytes, value_nodes, value_depth, stack_depth): limits of this instance."},
    {"setrecursionlimit", m_setrecursionlimit, METH_O, "Set the recursion limit; what is above stack_depth sets it to that."},
    {"scratch", m_scratch, METH_O, "scratch(bytes): the size of /tmp and /home/node, in this instance's own memory; 0: neither."},
    {"memory_bytes", m_memory_bytes, METH_NOARGS, "The size of this instance's memory."},
    {"tree", m_tree, METH_VARARGS, "tree(place, block): show a tree's files read-only below /place, and return that path."},
    {"dup", m_dup, METH_O, "dup(fd): another descriptor of the same file."},
    {"on_pause", m_on_pause, METH_O, "on_pause(function): what is called when the host wants a pause; None: nothing."},
    {"raise_again", m_raise_again, METH_O,
     "raise_again(error): a notice was raised where nothing can be: raise it at the next check."},
    {"count_output", m_count_output, METH_O, "Add to this call's output; above the limit the guest ends."},
    {"begin_item", m_begin_item, METH_O, "begin_item(number): work on that item of a batch begins."},
    {"loads", m_loads, METH_O, "Decode one CBOR item."},
    {"dumps", m_dumps, METH_O, "Encode one CBOR item, all of it inline."},
    {"written", m_written, METH_O, "Encode an output of a batch as it is now: what stands for it in the reply."},
    {"emit", m_emit, METH_O, "Encode a record into the log ring."},
    {"hold", m_hold, METH_VARARGS,
     "hold(stream, record): keep the record of a line without an end, for a host whose guest breaks."},
    {"seed_mt19937", m_seed, METH_VARARGS, "seed_mt19937(capsule, bytes): seed a numpy MT19937 through its capsule."},
    {"call", m_call, METH_O, "Ask the host: [ask, *operands] -> [granted, value or failure]; None: nothing is granted."},
    {0}};
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "_cloche", .m_size = -1, .m_methods = methods};

PyObject *module_init(void) {
    PyObject *m = PyModule_Create(&definition);
    if (m && codec_init(m) < 0) Py_CLEAR(m);
    return m;
}
