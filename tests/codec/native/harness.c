/* The guest's codec, validator and ring as a native extension module, so that tests and the fuzzer run in milliseconds
   and under a sanitizer. decode.c and codec.c are compiled with free = harness_free (see build.py). */
#include "codec.h"
#include "check.h"
#include "ring.h"
#include <stdlib.h>
#include <string.h>

enum { BLOCKS = 4096 };
static void *blocks[BLOCKS];
static Py_ssize_t live;

void harness_free(void *address) {
    if (!address) return;
    for (Py_ssize_t i = 0; i < live; i++)
        if (blocks[i] == address) {
            blocks[i] = blocks[--live];
            free(address);
            return;
        }
    Py_FatalError("a block was freed that is not allocated");
}

static PyObject *place(PyObject *m, PyObject *arg) {
    Py_buffer b;
    if (PyObject_GetBuffer(arg, &b, PyBUF_SIMPLE) < 0) return NULL;
    void *address = live < BLOCKS ? malloc(b.len ? (size_t)b.len : 1) : NULL;
    if (address) memcpy(blocks[live++] = address, b.buf, (size_t)b.len);
    PyBuffer_Release(&b);
    return address ? PyLong_FromVoidPtr(address) : PyErr_NoMemory();
}
static PyObject *drop(PyObject *m, PyObject *arg) {
    void *address = PyLong_AsVoidPtr(arg);
    if (PyErr_Occurred()) return NULL;
    harness_free(address);
    Py_RETURN_NONE;
}
static PyObject *count(PyObject *m, PyObject *none) { return PyLong_FromSsize_t(live); }

/* Copies what a reply points to; call it before the next reply is made. */
static PyObject *lift(PyObject *m, PyObject *args) {
    unsigned long long address;
    Py_ssize_t n;
    if (!PyArg_ParseTuple(args, "Kn", &address, &n)) return NULL;
    PyObject *bytes = PyBytes_FromStringAndSize((const char *)(uintptr_t)address, n);
    PyObject *view = bytes ? PyMemoryView_FromObject(bytes) : NULL;
    Py_XDECREF(bytes);
    return view;
}

static PyObject *hooks(PyObject *m, PyObject *args) {
    PyObject *encode, *decode;
    if (!PyArg_ParseTuple(args, "OO", &encode, &decode) || codec_set_hooks(encode, decode) < 0) return NULL;
    Py_RETURN_NONE;
}
static PyObject *limits(PyObject *m, PyObject *args) {
    Py_ssize_t reply_bytes;
    unsigned nodes, depth;
    if (!PyArg_ParseTuple(args, "nII", &reply_bytes, &nodes, &depth)) return NULL;
    codec_set_limits((size_t)reply_bytes, nodes, depth);
    Py_RETURN_NONE;
}

/* The bytes are copied to a block of exactly their size: a sanitizer then sees every read beyond the end. */
static PyObject *exact(PyObject *arg, PyObject *(*use)(const uint8_t *, size_t)) {
    Py_buffer b;
    if (PyObject_GetBuffer(arg, &b, PyBUF_SIMPLE) < 0) return NULL;
    size_t n = (size_t)b.len;
    uint8_t *copy = malloc(n ? n : 1);
    if (copy) memcpy(copy, b.buf, n);
    PyBuffer_Release(&b);
    PyObject *result = copy ? use(copy, n) : PyErr_NoMemory();
    free(copy);
    return result;
}
static PyObject *request(PyObject *m, PyObject *arg) { return exact(arg, codec_decode); }
static PyObject *loads(PyObject *m, PyObject *arg) { return exact(arg, codec_decode_inline); }

static PyObject *encoded(PyObject *o, enum codec_form form, const char *root) {
    const uint8_t *p;
    size_t n;
    if (codec_encode(o, form, root, &p, &n) < 0) return NULL;
    return PyBytes_FromStringAndSize((const char *)p, (Py_ssize_t)n);
}
static PyObject *dumps(PyObject *m, PyObject *arg) { return encoded(arg, 0, "value"); }
static PyObject *written(PyObject *m, PyObject *arg) { return codec_written(arg); }
static PyObject *reply(PyObject *m, PyObject *arg) {
    codec_release();
    return encoded(arg, 1, "result");
}
static PyObject *release(PyObject *m, PyObject *none) {
    codec_release();
    Py_RETURN_NONE;
}

static unsigned max_nodes, max_depth;
static PyObject *check_copy(const uint8_t *p, size_t n) {
    return PyBool_FromLong(check_item(p, (uint32_t)n, max_nodes, max_depth));
}
static PyObject *check(PyObject *m, PyObject *args) {
    PyObject *frame;
    if (!PyArg_ParseTuple(args, "OII", &frame, &max_nodes, &max_depth)) return NULL;
    return exact(frame, check_copy);
}

static PyObject *put_copy(const uint8_t *p, size_t n) {
    ring_put(p, (uint32_t)n);
    Py_RETURN_NONE;
}
static PyObject *put(PyObject *m, PyObject *arg) { return exact(arg, put_copy); }
static PyObject *hold(PyObject *m, PyObject *args) {
    unsigned stream;
    const char *p;
    Py_ssize_t n;
    if (!PyArg_ParseTuple(args, "Iy#", &stream, &p, &n)) return NULL;
    return PyBool_FromLong(ring_hold(stream, (const uint8_t *)p, (uint32_t)n));
}
static PyObject *ring(PyObject *m, PyObject *none) {
    return PyMemoryView_FromMemory((char *)&cloche_ring, sizeof cloche_ring, PyBUF_WRITE);
}

static PyMethodDef methods[] = {{"place", place, METH_O, "Copy a buffer into a block; its address."},
                                {"drop", drop, METH_O, "Free a block."},
                                {"live", count, METH_NOARGS, "How many blocks there are."},
                                {"lift", lift, METH_VARARGS, "A view of a copy of what lies at (address, length)."},
                                {"hooks", hooks, METH_VARARGS, "codec_set_hooks"},
                                {"limits", limits, METH_VARARGS, "codec_set_limits"},
                                {"request", request, METH_O, "codec_decode"},
                                {"loads", loads, METH_O, "codec_decode_inline"},
                                {"dumps", dumps, METH_O, "codec_encode, in line"},
                                {"reply", reply, METH_O, "codec_release, then codec_encode, out of line"},
                                {"written", written, METH_O, "codec_written"},
                                {"release", release, METH_NOARGS, "codec_release"},
                                {"check", check, METH_VARARGS, "check_item(frame, max_nodes, max_depth)"},
                                {"put", put, METH_O, "ring_put"},
                                {"hold", hold, METH_VARARGS, "ring_hold(stream, record)"},
                                {"ring", ring, METH_NOARGS, "A view of the ring."},
                                {0}};
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "cloche_native", NULL, -1, methods};

PyMODINIT_FUNC PyInit_cloche_native(void) {
    PyObject *m = PyModule_Create(&definition);
    if (m && codec_init(m) < 0) Py_CLEAR(m);
    return m;
}
