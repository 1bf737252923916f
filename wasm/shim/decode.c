/* CBOR to Python objects. The bytes come from the host, or from the node through _cloche.loads, so they may be anything: a
   container that claims more items than bytes are left is refused before memory is allocated, and nothing recurses deeper than
   the limit. */
#include "decode.h"
#include <stdlib.h>
#include <string.h>

static PyObject *item(Decoder *d);

/* Opens a container of `count` items; the caller closes it by d->depth++. */
static int enter(Decoder *d, uint64_t count) {
    uint64_t left = (uint64_t)(d->end - d->p);
    if (d->owed > left || count > left - d->owed) return bad("cbor: the bytes end too early"), -1;
    if (!d->depth) return bad("cbor: nested too deep"), -1;
    d->depth--;
    d->owed += count;
    return 0;
}

static PyObject *next_item(Decoder *d) {
    d->owed--;
    return item(d);
}

/* Containers */

static PyObject *list(Decoder *d, uint64_t count, int tuple) {
    if (enter(d, count)) return NULL;
    PyObject *result = tuple ? PyTuple_New((Py_ssize_t)count) : PyList_New((Py_ssize_t)count);
    if (!result) return NULL;
    for (Py_ssize_t i = 0; i < (Py_ssize_t)count; i++) {
        PyObject *x = next_item(d);
        if (!x) return Py_DECREF(result), NULL;
        if (tuple) PyTuple_SET_ITEM(result, i, x);
        else PyList_SET_ITEM(result, i, x);
    }
    d->depth++;
    return result;
}

static PyObject *set(Decoder *d, int frozen) {
    uint64_t count;
    if (expect(d, ARRAY, &count) || enter(d, count)) return NULL;
    PyObject *result = frozen ? PyFrozenSet_New(NULL) : PySet_New(NULL);
    for (uint64_t i = 0; result && i < count; i++) {
        PyObject *x = next_item(d);
        if (!x || PySet_Add(result, x) < 0) Py_CLEAR(result);
        Py_XDECREF(x);
    }
    if (result && (uint64_t)PySet_GET_SIZE(result) != count) {
        Py_DECREF(result);
        return bad("cbor: a set has an item twice");
    }
    d->depth++;
    return result;
}

/* A dict of `count` pairs. plain: a CBOR map, whose keys are texts; else an array under the tag MAP, whose keys are any
   hashables. */
static PyObject *dict(Decoder *d, uint64_t count, int plain) {
    if (count > UINT64_MAX / 2) return bad("cbor: the bytes end too early");
    if (enter(d, 2 * count)) return NULL;
    PyObject *result = PyDict_New();
    for (uint64_t i = 0; result && i < count; i++) {
        d->owed -= plain;
        PyObject *k = plain ? read_key(d) : next_item(d), *v = k ? next_item(d) : NULL;
        if (!v || PyDict_SetItem(result, k, v) < 0) Py_CLEAR(result);
        Py_XDECREF(k);
        Py_XDECREF(v);
    }
    if (result && (uint64_t)PyDict_GET_SIZE(result) != count) {
        Py_DECREF(result);
        return bad("cbor: a map has a key twice");
    }
    d->depth++;
    return result;
}

/* Out of line */

/* Reads [address, length]. The guest now owns the block, except under SHARED_AT. */
static int block(Decoder *d, void **address, size_t *size) {
    const uint8_t *start = d->p;
    uint64_t count, a, n;
    if (!d->blocks) return bad("cbor: an address in bytes that are not a request"), -1;
    if (expect(d, ARRAY, &count) || count != 2 || expect(d, UINT, &a) || expect(d, UINT, &n) || a > UINTPTR_MAX || n > SIZE_MAX) {
        d->p = start;
        return bad("cbor: out of line is [address, length]"), -1;
    }
    *address = (void *)(uintptr_t)a;
    *size = (size_t)n;
    return 0;
}

static PyObject *out_of_line(Decoder *d, uint64_t tag) {
    void *address;
    size_t size;
    if (block(d, &address, &size)) return NULL;
    if (tag == TAG_BODY_AT || tag == TAG_SHARED_AT) return block_new(address, size, tag == TAG_BODY_AT);
    PyObject *result;
    if (size > PY_SSIZE_T_MAX) result = PyErr_NoMemory();
    else if (tag == TAG_BYTES_AT) result = PyBytes_FromStringAndSize(address, (Py_ssize_t)size);
    else result = PyUnicode_DecodeUTF8(address, (Py_ssize_t)size, NULL);
    free(address);
    return result;
}

/* A list of 64-bit integers (kind 0) or floats (kind 1), in one byte string. */
static PyObject *numbers(Decoder *d) {
    uint64_t count, kind;
    Head h;
    void *block_address = NULL;
    size_t size;
    if (expect(d, ARRAY, &count) || count != 2 || expect(d, UINT, &kind) || kind > 1 || head(d, &h))
        return bad("cbor: numbers are [0 or 1, bytes]");
    const uint8_t *p;
    if (h.major == TAG && h.value == TAG_BODY_AT) {
        if (block(d, &block_address, &size)) return NULL;
        p = block_address;
    } else if (h.major == BYTES && (p = string(d, h.value))) {
        size = (size_t)h.value;
    } else {
        return bad("cbor: numbers are [0 or 1, bytes]");
    }
    PyObject *result = size % 8 || !d->depth ? bad("cbor: numbers take 8 bytes each") : PyList_New((Py_ssize_t)(size / 8));
    for (Py_ssize_t i = 0; result && i < (Py_ssize_t)(size / 8); i++) {
        int64_t whole;
        double real;
        memcpy(&whole, p + 8 * i, 8);
        memcpy(&real, p + 8 * i, 8);
        PyObject *x = kind ? PyFloat_FromDouble(real) : PyLong_FromLongLong(whole);
        if (x) PyList_SET_ITEM(result, i, x);
        else Py_CLEAR(result);
    }
    free(block_address);
    return result;
}

/* After an error, frees the blocks that the rest of the message names. It steps from head to head, as nested items follow one
   another in the bytes, and stops where they are not CBOR. */
static void free_rest(Decoder *d) {
    Head h;
    while (d->p < d->end && !head(d, &h)) {
        void *address;
        size_t size;
        if (h.major == BYTES || h.major == TEXT) {
            if (!string(d, h.value)) break;
        } else if (h.major == TAG && (h.value == TAG_BYTES_AT || h.value == TAG_TEXT_AT || h.value == TAG_BODY_AT)) {
            if (block(d, &address, &size)) break;
            free(address);
        }
    }
    PyErr_Clear();
}

/* Tags */

static PyObject *tagged(Decoder *d, uint64_t tag) {
    uint64_t count;
    switch (tag) {
    case TAG_POS_BIGNUM:
    case TAG_NEG_BIGNUM: return read_bignum(d, tag);
    case TAG_TUPLE: return expect(d, ARRAY, &count) ? NULL : list(d, count, 1);
    case TAG_SET: return set(d, 0);
    case TAG_FROZENSET: return set(d, 1);
    case TAG_MAP:
        if (expect(d, ARRAY, &count)) return NULL;
        return count & 1 ? bad("cbor: a map has a key without a value") : dict(d, count / 2, 0);
    case TAG_SURROGATES: return read_surrogates(d);
    case TAG_BYTES_AT:
    case TAG_TEXT_AT:
    case TAG_BODY_AT:
    case TAG_SHARED_AT: return out_of_line(d, tag);
    case TAG_NUMBERS: return numbers(d);
    }
    if (!codec.decode) return bad("cbor: a tag that nobody decodes");
    if (!d->depth) return bad("cbor: nested too deep"); /* a tag in a tag in a tag ... would recurse without end */
    d->depth--;
    PyObject *content = item(d), *number = content ? PyLong_FromUnsignedLongLong(tag) : NULL, *result = NULL;
    d->depth++;
    if (number) {
        PyObject *arguments[] = {number, content};
        result = PyObject_Vectorcall(codec.decode, arguments, 2, NULL);
    }
    Py_XDECREF(number);
    Py_XDECREF(content);
    return result;
}

static PyObject *item(Decoder *d) {
    Head h;
    const uint8_t *start;
    if (head(d, &h)) return NULL;
    switch (h.major) {
    case UINT: return PyLong_FromUnsignedLongLong(h.value);
    case NEGATIVE: return read_negative(h.value);
    case BYTES:
        start = string(d, h.value);
        return start ? PyBytes_FromStringAndSize((const char *)start, (Py_ssize_t)h.value) : NULL;
    case TEXT: return read_text(d, h.value);
    case ARRAY: return list(d, h.value, 0);
    case MAP: return dict(d, h.value, 1);
    case TAG: return tagged(d, h.value);
    }
    return read_simple(&h);
}

static PyObject *decode(const uint8_t *p, size_t n, int blocks) {
    /* twice the depth: each container may have a tag, which counts here and does not in the encoder */
    Decoder d = {p, p + n, 0, 2 * codec.depth + 2, blocks};
    PyObject *result = item(&d);
    if (result && d.p != d.end) {
        Py_CLEAR(result);
        bad("cbor: bytes behind the item");
    }
    if (!result && blocks) {
        PyObject *type, *value, *traceback;
        PyErr_Fetch(&type, &value, &traceback);
        free_rest(&d);
        PyErr_Restore(type, value, traceback);
    }
    return result;
}

PyObject *codec_decode(const uint8_t *p, size_t n) { return decode(p, n, 1); }
PyObject *codec_decode_inline(const uint8_t *p, size_t n) { return decode(p, n, 0); }
