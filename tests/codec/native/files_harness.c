/* The guest's files (files.c, memfs.c, treefs.c, hostfs.c) as a native extension module. A test answers requests: the callable passed to `ask`
   gets the request's bytes and returns the answer's, or None. An errno is raised as OSError with WASI's number. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include "files.h"
#include "hostfs.h"
#include "memfs.h"
#include "output.h"
#include "treefs.h"
#include "wasi.h"
#include <stdlib.h>
#include <string.h>

static PyObject *asked;
static Py_ssize_t room = 1 << 26;
static uint64_t now = 1;

uint64_t wasi_now(void) { return now++; }
void wasi_random(uint8_t *p, size_t n) { memset(p, 0xa5, n); }
void output_write(int fd, const uint8_t *p, size_t n) { (void)fwrite(p, 1, n, fd == 1 ? stdout : stderr); }
size_t host_request_bytes(void) { return (size_t)room; }
Answer host_ask(const uint8_t *request, size_t n) {
    PyObject *answer = asked ? PyObject_CallFunction(asked, "y#", (const char *)request, (Py_ssize_t)n) : NULL;
    Answer a = {0};
    if (asked && !answer) PyErr_WriteUnraisable(asked);
    if (answer && answer != Py_None) {
        a.length = (size_t)PyBytes_GET_SIZE(answer);
        a.block = malloc(a.length ? a.length : 1);
        memcpy(a.block, PyBytes_AS_STRING(answer), a.length);
    }
    Py_XDECREF(answer);
    return a;
}

static PyObject *failed(fs_err e) {
    PyObject *arguments = Py_BuildValue("(is)", (int)e, "");
    if (arguments) PyErr_SetObject(PyExc_OSError, arguments);
    Py_XDECREF(arguments);
    return NULL;
}
static PyObject *done(fs_err e) {
    if (e) return failed(e);
    Py_RETURN_NONE;
}
static PyObject *shown(fs_err e, const Status *s) {
    if (e) return failed(e);
    return Py_BuildValue("(iKKKK)", s->kind, (unsigned long long)s->size, (unsigned long long)s->inode,
                         (unsigned long long)s->device, (unsigned long long)s->changed);
}
#define ARGS(...) \
    if (!PyArg_ParseTuple(args, __VA_ARGS__)) return NULL

static PyObject *place(PyObject *m, PyObject *arg) {
    Py_buffer b;
    if (PyObject_GetBuffer(arg, &b, PyBUF_SIMPLE) < 0) return NULL;
    void *address = malloc(b.len ? (size_t)b.len : 1);
    memcpy(address, b.buf, (size_t)b.len);
    PyBuffer_Release(&b);
    return PyLong_FromVoidPtr(address);
}
static PyObject *lift(PyObject *m, PyObject *args) {
    unsigned long long address;
    Py_ssize_t n;
    ARGS("Kn", &address, &n);
    PyObject *bytes = PyBytes_FromStringAndSize((const char *)(uintptr_t)address, n);
    PyObject *view = bytes ? PyMemoryView_FromObject(bytes) : NULL;
    Py_XDECREF(bytes);
    return view;
}
static PyObject *m_ask(PyObject *m, PyObject *arg) {
    Py_XSETREF(asked, arg == Py_None ? NULL : Py_NewRef(arg));
    Py_RETURN_NONE;
}
static PyObject *m_room(PyObject *m, PyObject *arg) {
    room = PyLong_AsSsize_t(arg);
    Py_RETURN_NONE;
}
static PyObject *m_scratch(PyObject *m, PyObject *arg) {
    memfs_limit(PyLong_AsUnsignedLongLong(arg));
    Py_RETURN_NONE;
}
static PyObject *m_tree(PyObject *m, PyObject *args) {
    const char *point, *block;
    Py_ssize_t n;
    ARGS("yy#", &point, &block, &n);
    uint8_t *copy = malloc(n ? (size_t)n : 1); /* exactly as long as the block, for AddressSanitizer; kept like the tree itself */
    memcpy(copy, block, (size_t)n);
    fs_err e = treefs_add(point, copy, (size_t)n);
    if (e) free(copy);
    return done(e);
}
static PyObject *m_open(PyObject *m, PyObject *args) {
    int fd, flags, append = 0, opened;
    const char *path;
    ARGS("iyi|i", &fd, &path, &flags, &append);
    fs_err e = files_open(fd, path, flags, append, &opened);
    return e ? failed(e) : PyLong_FromLong(opened);
}
static PyObject *m_close(PyObject *m, PyObject *args) {
    int fd;
    ARGS("i", &fd);
    return done(files_close(fd));
}
static PyObject *m_dup(PyObject *m, PyObject *args) {
    int fd, opened;
    ARGS("i", &fd);
    fs_err e = files_dup(fd, &opened);
    return e ? failed(e) : PyLong_FromLong(opened);
}
static PyObject *m_read(PyObject *m, PyObject *args) {
    int fd;
    Py_ssize_t n;
    long long at = -1;
    ARGS("in|L", &fd, &n, &at);
    uint8_t *p = malloc(n ? (size_t)n : 1);
    size_t got;
    fs_err e = at < 0 ? files_read(fd, p, (size_t)n, &got) : files_read_at(fd, (uint64_t)at, p, (size_t)n, &got);
    PyObject *result = e ? failed(e) : PyBytes_FromStringAndSize((char *)p, (Py_ssize_t)got);
    free(p);
    return result;
}
static PyObject *m_write(PyObject *m, PyObject *args) {
    int fd;
    const char *p;
    Py_ssize_t n;
    long long at = -1;
    ARGS("iy#|L", &fd, &p, &n, &at);
    size_t put;
    fs_err e = at < 0 ? files_write(fd, (const uint8_t *)p, (size_t)n, &put)
                      : files_write_at(fd, (uint64_t)at, (const uint8_t *)p, (size_t)n, &put);
    return e ? failed(e) : PyLong_FromSize_t(put);
}
static PyObject *m_seek(PyObject *m, PyObject *args) {
    int fd, whence;
    long long offset;
    uint64_t at;
    ARGS("iLi", &fd, &offset, &whence);
    fs_err e = files_seek(fd, offset, whence, &at);
    return e ? failed(e) : PyLong_FromUnsignedLongLong(at);
}
static PyObject *m_resize(PyObject *m, PyObject *args) {
    int fd;
    unsigned long long size;
    ARGS("iK", &fd, &size);
    return done(files_resize(fd, size));
}
static PyObject *m_status(PyObject *m, PyObject *args) {
    int fd;
    Status s;
    ARGS("i", &fd);
    fs_err e = files_status(fd, &s);
    return shown(e, &s);
}
static PyObject *m_next(PyObject *m, PyObject *args) {
    int fd;
    unsigned long long cookie;
    Entry entry;
    ARGS("iK", &fd, &cookie);
    fs_err e = files_next(fd, cookie, &entry);
    if (e) return failed(e);
    if (!entry.length) Py_RETURN_NONE;
    return Py_BuildValue("(y#iKK)", entry.name, (Py_ssize_t)entry.length, entry.kind, (unsigned long long)entry.next,
                         (unsigned long long)entry.inode);
}
static PyObject *m_find(PyObject *m, PyObject *args) {
    int fd;
    const char *path;
    Status s;
    ARGS("iy", &fd, &path);
    fs_err e = files_find(fd, path, &s);
    return shown(e, &s);
}
static PyObject *m_change(PyObject *m, PyObject *args) {
    int fd;
    const char *path;
    unsigned long long changed;
    ARGS("iyK", &fd, &path, &changed);
    return done(files_change(fd, path, changed));
}
#define BY_PATH(name, call) \
    static PyObject *name(PyObject *m, PyObject *args) { \
        int fd; \
        const char *path; \
        ARGS("iy", &fd, &path); \
        return done(call(fd, path)); \
    }
BY_PATH(m_mkdir, files_make_directory)
BY_PATH(m_unlink, files_unlink)
BY_PATH(m_rmdir, files_remove_directory)
static PyObject *m_rename(PyObject *m, PyObject *args) {
    int fd, to;
    const char *old, *new;
    ARGS("iyiy", &fd, &old, &to, &new);
    return done(files_rename(fd, old, to, new));
}

static PyMethodDef methods[] = {
    {"place", place, METH_O, "Copy a buffer into a block; its address."},
    {"lift", lift, METH_VARARGS, "A view of a copy of what lies at (address, length)."},
    {"ask", m_ask, METH_O, "What answers host_ask; None: nobody."},
    {"room", m_room, METH_O, "What host_request_bytes answers."},
    {"scratch", m_scratch, METH_O, "memfs_limit"},
    {"tree", m_tree, METH_VARARGS, "treefs_add(point, block)"},
    {"open", m_open, METH_VARARGS, "files_open(fd, path, flags, append=0) -> fd"},
    {"close", m_close, METH_VARARGS, "files_close(fd)"},
    {"dup", m_dup, METH_VARARGS, "files_dup(fd) -> fd"},
    {"read", m_read, METH_VARARGS, "files_read(fd, n), files_read_at(fd, n, at) -> bytes"},
    {"write", m_write, METH_VARARGS, "files_write(fd, bytes), files_write_at(fd, bytes, at) -> n"},
    {"seek", m_seek, METH_VARARGS, "files_seek(fd, offset, whence) -> position"},
    {"resize", m_resize, METH_VARARGS, "files_resize(fd, size)"},
    {"status", m_status, METH_VARARGS, "files_status(fd) -> kind, size, inode, device, changed"},
    {"next", m_next, METH_VARARGS, "files_next(fd, cookie) -> name, kind, cookie, inode; None: the end"},
    {"find", m_find, METH_VARARGS, "files_find(fd, path) -> as status"},
    {"change", m_change, METH_VARARGS, "files_change(fd, path, changed)"},
    {"mkdir", m_mkdir, METH_VARARGS, "files_make_directory(fd, path)"},
    {"unlink", m_unlink, METH_VARARGS, "files_unlink(fd, path)"},
    {"rmdir", m_rmdir, METH_VARARGS, "files_remove_directory(fd, path)"},
    {"rename", m_rename, METH_VARARGS, "files_rename(fd, old, fd, new)"},
    {0}};
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "cloche_files", NULL, -1, methods};

PyMODINIT_FUNC PyInit_cloche_files(void) { return PyModule_Create(&definition); }
