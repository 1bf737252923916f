/* Python objects to CBOR.

   What is in two places is written in both, so that a value becomes a tree; a cycle is refused, because it has no end. Trees can be
   far larger than what they were made of: value_nodes and reply_bytes hold for each item as it is written.
   Hooks run Python code, which may change or free anything: so every object is held while it is encoded, and containers are checked
   for changes. Functions return -1 with an exception set, else 0. */
#include "encode.h"
#include "hot.h"
#include <stdlib.h>

enum { SPARE_BYTES = 1 << 20, SUBSTITUTES = 8 };
enum { BATCH_DEPTH = 3 }; /* the lists around an output in the reply to a batch */

/* The buffer of the last encode, for the next one. An encode takes it while it runs: another one inside a hook makes its own. */
static struct {
    uint8_t *bytes;
    size_t capacity;
} spare HOT;

static int value(Encoder *e, PyObject *o);

static int too_deep(void) {
    PyErr_Format(PyExc_ValueError, "nested more than %u containers deep (value_depth)", codec.depth);
    return -1;
}

static int check_not_enclosing(Encoder *e, PyObject *o) {
    for (const struct enclosing *level = e->enclosing; level; level = level->outer)
        if (level->container == o) return refuse(PyExc_ValueError, "a cycle: this %U contains itself", o);
    return 0;
}

/* The caller and the container hold one reference each. What encloses itself has two more: of its other container, and of the caller
   that is in it already. */
static int can_be_enclosing(PyObject *o) { return Py_REFCNT(o) > 2; }

static int enter(Encoder *e, struct enclosing *here, PyObject *o) {
    if (can_be_enclosing(o) && check_not_enclosing(e, o) < 0) return -1;
    if (!e->depth) return too_deep();
    e->depth--;
    e->substitutes = 0;
    here->container = o;
    here->outer = e->enclosing;
    e->enclosing = here;
    return 0;
}

static int leave(Encoder *e, const struct enclosing *here, int result) {
    e->depth++;
    e->enclosing = here->outer;
    return result;
}

static int changed(PyObject *o) { return refuse(PyExc_ValueError, "the %U changed while it was encoded", o); }

/* Containers */

static int held(Encoder *e, PyObject *o) {
    Py_INCREF(o);
    int result = value(e, o);
    Py_DECREF(o);
    return result;
}

/* The items of an exact list or tuple, as an array. */
static int array(Encoder *e, PyObject *o) {
    Py_ssize_t n = PySequence_Fast_GET_SIZE(o);
    if (write_head(e, ARRAY, (uint64_t)n) || room_for(e, (uint64_t)n)) return -1;
    for (Py_ssize_t i = 0; i < n; i++) {
        if (i >= PySequence_Fast_GET_SIZE(o)) return changed(o);
        if (held(e, PySequence_Fast_GET_ITEM(o, i))) return path_add_index(e, i), -1;
    }
    return PySequence_Fast_GET_SIZE(o) == n ? 0 : changed(o);
}

/* 0 for a list of nothing but integers of 64 bits, 1 for one of nothing but floats, -1 for all others. */
static int numbers_kind(PyObject *o) {
    Py_ssize_t n = PyList_GET_SIZE(o);
    if (n < NUMBERS_SHORTEST) return -1;
    PyTypeObject *type = Py_TYPE(PyList_GET_ITEM(o, 0));
    if (type != &PyLong_Type && type != &PyFloat_Type) return -1;
    for (Py_ssize_t i = 0; i < n; i++) {
        PyObject *x = PyList_GET_ITEM(o, i);
        int overflow = 0;
        if (!Py_IS_TYPE(x, type)) return -1;
        if (type == &PyLong_Type && (PyLong_AsLongLongAndOverflow(x, &overflow), overflow)) return -1;
    }
    return type == &PyFloat_Type;
}

static int numbers(Encoder *e, PyObject *o, int kind) {
    Py_ssize_t n = PyList_GET_SIZE(o);
    if (write_head(e, TAG, TAG_NUMBERS) || write_head(e, ARRAY, 2) || write_head(e, UINT, (uint64_t)kind) ||
        write_head(e, BYTES, 8 * (uint64_t)n) || room_for(e, (uint64_t)n))
        return -1;
    e->nodes += (uint32_t)n;
    for (Py_ssize_t i = 0; i < n; i++) { /* no Python code runs here: the list stays as it is */
        PyObject *x = PyList_GET_ITEM(o, i);
        int64_t whole = kind ? 0 : PyLong_AsLongLong(x);
        double real = kind ? PyFloat_AS_DOUBLE(x) : 0;
        if (write_bytes(e, kind ? (const void *)&real : &whole, 8)) return -1;
    }
    return 0;
}

static int sequence(Encoder *e, PyObject *o) {
    struct enclosing here;
    int tuple = PyTuple_CheckExact(o);
    if (enter(e, &here, o)) return -1;
    int kind = tuple || e->form == IN_LINE ? -1 : numbers_kind(o); /* log records have no tags */
    if (kind >= 0) return leave(e, &here, numbers(e, o, kind));
    return leave(e, &here, (tuple && write_head(e, TAG, TAG_TUPLE)) || array(e, o) ? -1 : 0);
}

/* Whether a key or set item arrives as what it is. Others change (an enum becomes its value): they go to the hook, which refuses
   two that would become equal. */
static int is_itself(PyObject *o, int depth) {
    if (PyUnicode_CheckExact(o) || PyLong_CheckExact(o) || PyFloat_CheckExact(o) || PyBytes_CheckExact(o)) return 1;
    if (o == Py_None || PyBool_Check(o)) return 1;
    if (!PyTuple_CheckExact(o) || !depth) return 0;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(o); i++)
        if (!is_itself(PyTuple_GET_ITEM(o, i), depth - 1)) return 0;
    return 1;
}

static int other(Encoder *e, PyObject *o);

static int set(Encoder *e, PyObject *o) {
    PyObject *items = PySequence_List(o);
    if (!items) return -1;
    struct enclosing here;
    int result = -1, frozen = PyFrozenSet_CheckExact(o);
    Py_ssize_t n = PyList_GET_SIZE(items);
    for (Py_ssize_t i = 0; i < n; i++) {
        if (is_itself(PyList_GET_ITEM(items, i), 4)) continue;
        Py_DECREF(items);
        return other(e, o);
    }
    if (!enter(e, &here, o)) {
        result =
            write_head(e, TAG, frozen ? TAG_FROZENSET : TAG_SET) || write_head(e, ARRAY, (uint64_t)n) || room_for(e, (uint64_t)n)
                ? -1
                : 0;
        for (Py_ssize_t i = 0; !result && i < n; i++) {
            result = held(e, PyList_GET_ITEM(items, i));
            if (result) path_add(e, NULL);
        }
        leave(e, &here, result);
    }
    Py_DECREF(items);
    return result;
}

static int pairs(Encoder *e, PyObject *o, int plain) {
    Py_ssize_t n = PyDict_GET_SIZE(o), at = 0, done = 0;
    PyObject *k, *v;
    if (plain ? write_head(e, MAP, (uint64_t)n) : write_head(e, TAG, TAG_MAP) || write_head(e, ARRAY, 2 * (uint64_t)n)) return -1;
    if (room_for(e, 2 * (uint64_t)n)) return -1;
    for (; PyDict_Next(o, &at, &k, &v); done++) {
        if (done == n) return changed(o);
        Py_INCREF(k);
        Py_INCREF(v);
        int in_key = plain ? write_text(e, k, 1) : value(e, k), failed = in_key || value(e, v);
        if (failed) path_add(e, in_key ? NULL : Py_NewRef(k));
        Py_DECREF(k);
        Py_DECREF(v);
        if (failed) return -1;
    }
    return done == n ? 0 : changed(o);
}

static int dict(Encoder *e, PyObject *o) {
    struct enclosing here;
    Py_ssize_t at = 0;
    PyObject *k, *v;
    int plain = 1;
    while (PyDict_Next(o, &at, &k, &v)) {
        if (is_plain_key(k)) continue;
        if (!is_itself(k, 4)) return other(e, o);
        plain = 0;
    }
    return enter(e, &here, o) ? -1 : leave(e, &here, pairs(e, o, plain));
}

/* Everything else, through the hook */

static int is_typed(uint64_t tag) { return tag >= TAG_TYPED_FIRST && tag <= TAG_TYPED_LAST; }

static int is_array(uint64_t tag) {
    return is_typed(tag) || tag == TAG_ROW_MAJOR || tag == TAG_COLUMN_MAJOR || tag == TAG_NDARRAY || tag == TAG_READONLY;
}

static int is_container(uint64_t tag) { return tag == TAG_MAP || tag == TAG_SET || tag == TAG_FROZENSET || tag == TAG_TUPLE; }

/* The content of NDARRAY and OPAQUE: parts in line, then a body. */
static int with_body(Encoder *e, uint64_t tag, PyObject *o) {
    Py_ssize_t last = PyList_GET_SIZE(o) - 1;
    int out_of_line = e->out_of_line;
    if (write_head(e, ARRAY, (uint64_t)last + 1)) return -1;
    e->out_of_line = 0;
    for (Py_ssize_t i = 0; i < last; i++)
        if (held(e, PyList_GET_ITEM(o, i))) return -1;
    e->out_of_line = out_of_line;
    return write_byte_string(e, PyList_GET_ITEM(o, last), tag == TAG_OPAQUE ? TAG_BYTES_AT : TAG_BODY_AT);
}

static int content(Encoder *e, uint64_t tag, PyObject *o) {
    if (write_head(e, TAG, tag)) return -1;
    if (is_typed(tag)) return write_byte_string(e, o, TAG_BODY_AT);
    if (PyList_CheckExact(o) && PyList_GET_SIZE(o) && (tag == TAG_NDARRAY || tag == TAG_OPAQUE)) return with_body(e, tag, o);
    int out_of_line = e->out_of_line;
    /* the parts of a date or a number are in line, whatever their length */
    e->out_of_line = out_of_line && (is_array(tag) || is_container(tag) || tag == TAG_RECORD);
    int result = PyList_CheckExact(o) ? array(e, o) : held(e, o);
    if (result) path_content(e, tag, o);
    e->out_of_line = out_of_line;
    return result;
}

static int tagged(Encoder *e, uint64_t tag, PyObject *substitute) {
    if (is_container(tag) && !e->depth) return too_deep();
    e->depth -= is_container(tag);
    int result = content(e, tag, substitute);
    e->depth += is_container(tag);
    return result;
}

/* Calls the hook: a new reference to (tag or None, substitute). */
static PyObject *ask(Encoder *e, PyObject *o) {
    PyObject *answer = codec.encode ? PyObject_CallOneArg(codec.encode, o) : NULL;
    if (!answer || !PyTuple_CheckExact(answer) || PyTuple_GET_SIZE(answer) != 2) {
        if (!PyErr_Occurred()) refuse(PyExc_TypeError, "cannot encode %U", o);
        Py_XDECREF(answer);
        return NULL;
    }
    return answer;
}

static int other(Encoder *e, PyObject *o) {
    if (check_not_enclosing(e, o) < 0) return -1;
    if (e->substitutes == SUBSTITUTES)
        return refuse(PyExc_TypeError, "cannot encode %U: it stands for another value, and that for another", o);
    PyObject *answer = ask(e, o);
    if (!answer) return -1;
    PyObject *number = PyTuple_GET_ITEM(answer, 0), *substitute = PyTuple_GET_ITEM(answer, 1);
    int untagged = number == Py_None;
    uint64_t tag = untagged ? 0 : PyLong_AsUnsignedLongLong(number);
    int substitutes = e->substitutes, result = -1;
    if (tag != UINT64_MAX) {
        struct enclosing here = {o, e->enclosing};
        e->enclosing = &here;
        e->substitutes = untagged ? substitutes + 1 : 0;
        result = untagged ? held(e, substitute) : tagged(e, tag, substitute);
        e->substitutes = substitutes;
        e->enclosing = here.outer;
    }
    Py_DECREF(answer);
    return result;
}

/* The caller holds a reference of its own to o. */
static int value(Encoder *e, PyObject *o) {
    PyTypeObject *type = Py_TYPE(o);
    if (type == &PyUnicode_Type) return write_text(e, o, 0);
    if (type == &PyLong_Type) return write_int(e, o);
    if (type == &PyFloat_Type) return write_float(e, PyFloat_AS_DOUBLE(o));
    if (o == Py_None) return write_head(e, SIMPLE, CBOR_NULL);
    if (type == &PyBool_Type) return write_head(e, SIMPLE, o == Py_True ? CBOR_TRUE : CBOR_FALSE);
    if (type == &PyDict_Type) return dict(e, o);
    if (type == &PyList_Type || type == &PyTuple_Type) return sequence(e, o);
    if (type == &PyBytes_Type || type == &PyByteArray_Type) return write_byte_string(e, o, TAG_BYTES_AT);
    if (type == &PySet_Type || type == &PyFrozenSet_Type) return set(e, o);
    if (is_written(o)) return write_written(e, o);
    return other(e, o);
}

static int encode(Encoder *e, PyObject *o, const char *root) {
    size_t kept = kept_count();
    e->bytes = spare.bytes;
    e->capacity = spare.capacity;
    spare.bytes = NULL;
    spare.capacity = 0;
    Py_INCREF(o);
    /* a reply is an array, also when it is written as a tuple */
    int result = e->form == REPLY && PyTuple_CheckExact(o) ? array(e, o) : value(e, o);
    Py_DECREF(o);
    if (result) {
        kept_drop(kept);
        path_raise(e, root);
    }
    free(spare.bytes); /* that of an encode inside this one */
    spare.bytes = e->bytes;
    spare.capacity = e->capacity;
    return result;
}

int codec_encode(PyObject *o, enum codec_form form, const char *root, const uint8_t **p, size_t *n) {
    Encoder e = {.max_nodes = form == IN_LINE ? UINT32_MAX : codec.nodes, /* log records have bounds of their own */
                 .form = form,
                 .out_of_line = form != IN_LINE,
                 .depth = codec.depth};
    int result = encode(&e, o, root);
    *p = e.bytes;
    *n = e.length;
    return result;
}

PyObject *codec_written(PyObject *o) {
    Encoder e = {.max_nodes = codec.nodes,
                 .form = REQUEST,
                 .out_of_line = 1,
                 .depth = codec.depth > BATCH_DEPTH ? codec.depth - BATCH_DEPTH : 0,
                 .bodies = PyList_New(0)};
    if (!e.bodies) return NULL;
    PyObject *written = encode(&e, o, "output") ? NULL : written_new(&e);
    Py_DECREF(e.bodies);
    return written;
}

void codec_release(void) {
    kept_drop(0);
    if (spare.capacity > SPARE_BYTES) {
        free(spare.bytes);
        spare.bytes = NULL;
        spare.capacity = 0;
    }
}

size_t codec_kept(void) { return kept_count(); }
void codec_release_since(size_t kept) { kept_drop(kept); }
