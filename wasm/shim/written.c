/* Written: a value as it was at one moment, in the bytes of a reply, for a batch's reply that is made later. The node may change
   the value meanwhile. Immutable large bodies (bytes, text) stay where they are; the object holds them, and copies of all others. */
#include "encode.h"

typedef struct {
    PyObject_HEAD PyObject *bytes, *bodies;
    uint32_t nodes;
    size_t outside;
} Written;

static void written_dealloc(PyObject *self) {
    Py_XDECREF(((Written *)self)->bytes);
    Py_XDECREF(((Written *)self)->bodies);
    Py_TYPE(self)->tp_free(self);
}

static PyTypeObject written_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "_cloche.Written",
    .tp_doc = "A value as it was, in the bytes of a reply.",
    .tp_basicsize = sizeof(Written),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .tp_dealloc = written_dealloc,
};

int written_init(void) { return PyType_Ready(&written_type); }

int is_written(PyObject *o) { return Py_IS_TYPE(o, &written_type); }

PyObject *written_new(const Encoder *e) {
    Written *written = PyObject_New(Written, &written_type);
    if (!written) return NULL;
    written->bodies = Py_NewRef(e->bodies);
    written->nodes = e->nodes;
    written->outside = e->outside;
    written->bytes = PyBytes_FromStringAndSize((const char *)e->bytes, (Py_ssize_t)e->length);
    if (!written->bytes) Py_CLEAR(written);
    return (PyObject *)written;
}

int write_written(Encoder *e, PyObject *o) {
    const Written *written = (const Written *)o;
    if (room_for(e, written->nodes)) return -1;
    e->nodes += written->nodes;
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(written->bodies); i++)
        if (hold_body(e, PyList_GET_ITEM(written->bodies, i))) return -1;
    e->outside += written->outside;
    return write_bytes(e, PyBytes_AS_STRING(written->bytes), (size_t)PyBytes_GET_SIZE(written->bytes));
}
