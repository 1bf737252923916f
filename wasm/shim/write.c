/* Bytes out: heads, numbers, strings, and the bodies that stay where they are. */
#include "encode.h"
#include "hot.h"
#include <stdlib.h>
#include <string.h>

/* Views of the objects that the last messages point into; see codec_release. */
static struct {
    Py_buffer *views;
    size_t used, capacity;
} kept HOT;

size_t kept_count(void) { return kept.used; }

void kept_drop(size_t count) {
    while (kept.used > count) {
        Py_buffer view = kept.views[--kept.used];
        PyBuffer_Release(&view);
    }
}

static int too_large(Encoder *e, size_t more) {
    uint64_t total = (uint64_t)e->length + e->outside + more;
    if (total <= codec.reply_bytes) return 0;
    PyErr_Format(PyExc_ValueError, "the value takes %llu bytes or more; the limit reply_bytes is %zu", (unsigned long long)total,
                 codec.reply_bytes);
    return -1;
}

static int need(Encoder *e, size_t more) {
    if (too_large(e, more)) return -1;
    if (more <= e->capacity - e->length) return 0;
    size_t capacity = e->capacity ? e->capacity : 4096;
    while (capacity - e->length < more) capacity *= 2;
    uint8_t *bytes = realloc(e->bytes, capacity);
    if (!bytes) return PyErr_NoMemory(), -1;
    e->bytes = bytes;
    e->capacity = capacity;
    return 0;
}

int room_for(Encoder *e, uint64_t more) {
    uint64_t total = e->nodes + more;
    if (total <= e->max_nodes) return 0;
    PyErr_Format(PyExc_ValueError, "the value has %llu items or more; the limit value_nodes is %u", (unsigned long long)total,
                 (unsigned)e->max_nodes);
    return -1;
}

/* Each head is one item. */
static inline int count_head(Encoder *e) {
    if (e->nodes >= e->max_nodes) return room_for(e, 1);
    e->nodes++;
    return 0;
}

int write_head(Encoder *e, int major, uint64_t value) {
    int width = cbor_width(value);
    if (count_head(e) || need(e, 1 + (size_t)width)) return -1;
    e->length += cbor_put_head(e->bytes + e->length, major, value, width);
    return 0;
}

int write_bytes(Encoder *e, const void *p, size_t n) {
    if (need(e, n)) return -1;
    if (n) memcpy(e->bytes + e->length, p, n);
    e->length += n;
    return 0;
}

int write_string(Encoder *e, int major, const void *p, size_t n) {
    return write_head(e, major, n) || write_bytes(e, p, n) ? -1 : 0;
}

int write_float(Encoder *e, double value) {
    uint64_t bits;
    memcpy(&bits, &value, 8);
    if (count_head(e) || need(e, CBOR_HEAD_BYTES)) return -1;
    e->length += cbor_put(e->bytes + e->length, SIMPLE, CBOR_FLOAT64, bits, 8);
    return 0;
}

/* Integers */

/* The heads of a bignum, and room for its bytes. */
static int write_bignum_heads(Encoder *e, int negative, size_t n) {
    return write_head(e, TAG, negative ? TAG_NEG_BIGNUM : TAG_POS_BIGNUM) || write_head(e, BYTES, n) || need(e, n) ? -1 : 0;
}

static int write_bignum(Encoder *e, PyObject *o, int negative) {
    PyObject *positive = negative ? PyNumber_Invert(o) : Py_NewRef(o);
    if (!positive) return -1;
    int result = -1;
#if PY_VERSION_HEX >= 0x030D0000
    const int flags = Py_ASNATIVEBYTES_BIG_ENDIAN | Py_ASNATIVEBYTES_UNSIGNED_BUFFER;
    Py_ssize_t n = PyLong_AsNativeBytes(positive, NULL, 0, flags);
    if (n >= 0 && !write_bignum_heads(e, negative, (size_t)n) &&
        PyLong_AsNativeBytes(positive, e->bytes + e->length, n, flags) >= 0)
        result = 0;
#else
    size_t n = (_PyLong_NumBits(positive) + 7) / 8;
    if (!write_bignum_heads(e, negative, n)) result = _PyLong_AsByteArray((PyLongObject *)positive, e->bytes + e->length, n, 0, 0);
#endif
    e->length += result ? 0 : (size_t)n;
    Py_DECREF(positive);
    return result;
}

int write_int(Encoder *e, PyObject *o) {
    int overflow;
    long long value = PyLong_AsLongLongAndOverflow(o, &overflow);
    if (!overflow) return value >= 0 ? write_head(e, UINT, (uint64_t)value) : write_head(e, NEGATIVE, ~(uint64_t)value);
    PyObject *positive = overflow < 0 ? PyNumber_Invert(o) : Py_NewRef(o);
    if (!positive) return -1;
    unsigned long long large = PyLong_AsUnsignedLongLong(positive);
    Py_DECREF(positive);
    if (large != (unsigned long long)-1 || !PyErr_Occurred()) return write_head(e, overflow < 0 ? NEGATIVE : UINT, large);
    if (!PyErr_ExceptionMatches(PyExc_OverflowError)) return -1;
    PyErr_Clear();
    return write_bignum(e, o, overflow < 0);
}

/* Bodies: beside the message when they are large */

static int write_place(Encoder *e, uint64_t tag, const void *p, size_t n) {
    return write_head(e, TAG, tag) || write_head(e, ARRAY, 2) || write_head(e, UINT, (uintptr_t)p) || write_head(e, UINT, n) ? -1
                                                                                                                             : 0;
}

/* Keeps the view. On failure it is released. */
static int keep_view(Py_buffer *view) {
    if (kept.used == kept.capacity) {
        size_t capacity = kept.capacity ? 2 * kept.capacity : 8;
        Py_buffer *views = realloc(kept.views, capacity * sizeof *views);
        if (!views) {
            PyBuffer_Release(view);
            return PyErr_NoMemory(), -1;
        }
        kept.views = views;
        kept.capacity = capacity;
    }
    kept.views[kept.used++] = *view;
    return 0;
}

int hold_body(Encoder *e, PyObject *o) {
    Py_buffer view; /* made by hand: it is only to hold the reference */
    if (e->bodies) return PyList_Append(e->bodies, o);
    if (PyBuffer_FillInfo(&view, o, NULL, 0, 1, PyBUF_SIMPLE) < 0) return -1;
    return keep_view(&view);
}

/* Writes where the bytes of the view lie, and keeps the view, or the object that it is of. On failure the view is released. */
static int keep(Encoder *e, Py_buffer *view, uint64_t tag, const void *p, size_t n) {
    int failed = too_large(e, n);
    if (e->bodies || failed) {
        failed = failed || PyList_Append(e->bodies, view->obj) < 0;
        PyBuffer_Release(view);
    } else {
        failed = keep_view(view);
    }
    if (failed) return -1;
    e->outside += n;
    return write_place(e, tag, p, n);
}

/* In place of a view of what can change: one of a copy. On failure the view is released. */
static int copy_view(Encoder *e, Py_buffer *view) {
    PyObject *copy = too_large(e, (size_t)view->len) ? NULL : PyBytes_FromStringAndSize(view->buf, view->len);
    PyBuffer_Release(view);
    int failed = !copy || PyObject_GetBuffer(copy, view, PyBUF_SIMPLE) < 0;
    Py_XDECREF(copy);
    return failed ? -1 : 0;
}

int write_byte_string(Encoder *e, PyObject *o, uint64_t tag) {
    Py_buffer view;
    if (PyObject_GetBuffer(o, &view, PyBUF_SIMPLE) < 0) return -1;
    if (e->out_of_line && view.len >= OUT_OF_LINE_BYTES) {
        if (e->bodies && !PyBytes_CheckExact(o) && copy_view(e, &view)) return -1;
        return keep(e, &view, tag, view.buf, (size_t)view.len);
    }
    int result = write_string(e, BYTES, view.buf, (size_t)view.len);
    PyBuffer_Release(&view);
    return result;
}

/* Texts */

static inline int is_surrogate(Py_UCS4 c) { return c >= 0xD800 && c <= 0xDFFF; }

/* Two walks over a text. Both are inlined three times, with `kind` a constant: one loop for each width of characters. */

static inline Py_ssize_t utf8_size_of(int kind, const void *units, Py_ssize_t n) {
    Py_ssize_t size = n;
    for (Py_ssize_t i = 0; i < n; i++) {
        Py_UCS4 c = PyUnicode_READ(kind, units, i);
        size += (c >= 0x80) + (c >= 0x800) + (c >= 0x10000);
        if (kind != PyUnicode_1BYTE_KIND && is_surrogate(c)) return -1;
    }
    return size;
}

static inline void store_utf8_of(int kind, const void *units, Py_ssize_t n, uint8_t *p) {
    for (Py_ssize_t i = 0; i < n; i++) {
        Py_UCS4 c = PyUnicode_READ(kind, units, i);
        if (c < 0x80) {
            *p++ = (uint8_t)c;
        } else if (c < 0x800) {
            *p++ = (uint8_t)(0xC0 | c >> 6);
            *p++ = (uint8_t)(0x80 | (c & 0x3F));
        } else {
            int more = c < 0x10000 ? 2 : 3;
            *p++ = (uint8_t)((more == 2 ? 0xE0 : 0xF0) | c >> 6 * more);
            while (more--) *p++ = (uint8_t)(0x80 | (c >> 6 * more & 0x3F));
        }
    }
}

#define FOR_KIND(walk, ...) \
    switch (PyUnicode_KIND(o)) { \
    case PyUnicode_1BYTE_KIND: return walk(PyUnicode_1BYTE_KIND, __VA_ARGS__); \
    case PyUnicode_2BYTE_KIND: return walk(PyUnicode_2BYTE_KIND, __VA_ARGS__); \
    default: return walk(PyUnicode_4BYTE_KIND, __VA_ARGS__); \
    }

/* How many bytes the text takes as UTF-8; -1 if it has a surrogate. */
static Py_ssize_t utf8_size(PyObject *o) {
    Py_ssize_t n = PyUnicode_GET_LENGTH(o);
    if (PyUnicode_IS_ASCII(o)) return n;
    if (n > PY_SSIZE_T_MAX / 4) return PY_SSIZE_T_MAX; /* more than any limit */
    FOR_KIND(utf8_size_of, PyUnicode_DATA(o), n)
}

static void store_utf8(uint8_t *p, PyObject *o) { FOR_KIND(store_utf8_of, PyUnicode_DATA(o), PyUnicode_GET_LENGTH(o), p) }

static int write_surrogates(Encoder *e, PyObject *o) {
    PyObject *bytes = PyUnicode_AsEncodedString(o, "utf-8", "surrogatepass");
    if (!bytes) return -1;
    int result =
        write_head(e, TAG, TAG_SURROGATES) || write_string(e, BYTES, PyBytes_AS_STRING(bytes), (size_t)PyBytes_GET_SIZE(bytes));
    Py_DECREF(bytes);
    return result ? -1 : 0;
}

int is_plain_key(PyObject *o) { return PyUnicode_CheckExact(o) && (PyUnicode_IS_ASCII(o) || utf8_size(o) >= 0); }

/* A large text beside the message: an ASCII one stays where it is, another one is copied into a byte string as UTF-8. */
static int write_large_text(Encoder *e, PyObject *o, size_t size) {
    Py_buffer view;
    if (PyUnicode_IS_ASCII(o)) {
        /* a view made by hand, which holds the reference: a str exports no buffer */
        if (PyBuffer_FillInfo(&view, o, PyUnicode_DATA(o), (Py_ssize_t)size, 1, PyBUF_SIMPLE) < 0) return -1;
        return keep(e, &view, TAG_TEXT_AT, view.buf, size);
    }
    if (too_large(e, size)) return -1;
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)size);
    if (!bytes) return -1;
    store_utf8((uint8_t *)PyBytes_AS_STRING(bytes), o);
    int failed = PyObject_GetBuffer(bytes, &view, PyBUF_SIMPLE);
    Py_DECREF(bytes);
    return failed ? -1 : keep(e, &view, TAG_TEXT_AT, view.buf, size);
}

int write_text(Encoder *e, PyObject *o, int key) {
    Py_ssize_t size = utf8_size(o);
    if (size < 0) return write_surrogates(e, o);
    if (e->out_of_line && !key && size >= OUT_OF_LINE_BYTES) return write_large_text(e, o, (size_t)size);
    if (write_head(e, TEXT, (uint64_t)size) || need(e, (size_t)size)) return -1;
    if (PyUnicode_IS_ASCII(o)) memcpy(e->bytes + e->length, PyUnicode_DATA(o), (size_t)size);
    else store_utf8(e->bytes + e->length, o);
    e->length += (size_t)size;
    return 0;
}
