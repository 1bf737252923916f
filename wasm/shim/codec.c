/* The state of the codec, and Block: a request's memory as a Python object. */
#include "codec_parts.h"
#include "encode.h"
#include "hot.h"
#include <stdlib.h>

struct codec codec HOT = {.reply_bytes = USUAL_REPLY_BYTES, .nodes = UINT32_MAX, .depth = USUAL_VALUE_DEPTH};

typedef struct {
    PyObject_HEAD void *address;
    size_t size;
    int owned;
} Block;

static void block_dealloc(PyObject *self) {
    if (((Block *)self)->owned) free(((Block *)self)->address);
    Py_TYPE(self)->tp_free(self);
}

static int block_buffer(PyObject *self, Py_buffer *view, int flags) {
    Block *block = (Block *)self;
    return PyBuffer_FillInfo(view, self, block->address, (Py_ssize_t)block->size, 0, flags);
}

static Py_ssize_t block_length(PyObject *self) { return (Py_ssize_t)((Block *)self)->size; }

static PyBufferProcs block_as_buffer = {.bf_getbuffer = block_buffer};
static PySequenceMethods block_as_sequence = {.sq_length = block_length};

static PyTypeObject block_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "_cloche.Block",
    .tp_doc = "Memory that the host filled for this guest: a writable buffer, freed with this object unless the host keeps it.",
    .tp_basicsize = sizeof(Block),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .tp_dealloc = block_dealloc,
    .tp_as_buffer = &block_as_buffer,
    .tp_as_sequence = &block_as_sequence,
};

PyObject *block_new(void *address, size_t size, int owned) {
    Block *block = size <= PY_SSIZE_T_MAX ? PyObject_New(Block, &block_type) : NULL;
    if (!block) {
        if (owned) free(address);
        return PyErr_Occurred() ? NULL : PyErr_NoMemory();
    }
    block->address = address;
    block->size = size;
    block->owned = owned;
    return (PyObject *)block;
}

int codec_init(PyObject *module) { return written_init() < 0 ? -1 : PyModule_AddType(module, &block_type); }

int codec_set_hooks(PyObject *encode, PyObject *decode) {
    if ((encode && !PyCallable_Check(encode)) || (decode && !PyCallable_Check(decode))) {
        PyErr_SetString(PyExc_TypeError, "a codec hook is a callable");
        return -1;
    }
    if (encode) Py_XSETREF(codec.encode, Py_NewRef(encode));
    if (decode) Py_XSETREF(codec.decode, Py_NewRef(decode));
    return 0;
}

void codec_set_limits(size_t reply_bytes, uint32_t nodes, uint32_t depth) {
    codec.reply_bytes = reply_bytes;
    codec.nodes = nodes;
    codec.depth = depth;
}

size_t codec_reply_bytes(void) { return codec.reply_bytes; }
