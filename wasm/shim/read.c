/* CBOR to numbers and texts. */
#include "decode.h"
#include "hot.h"
#include <string.h>

/* Integers and floats */

PyObject *read_negative(uint64_t value) {
    if (value <= INT64_MAX) return PyLong_FromLongLong(-1 - (long long)value);
    PyObject *positive = PyLong_FromUnsignedLongLong(value), *result = positive ? PyNumber_Invert(positive) : NULL;
    Py_XDECREF(positive);
    return result;
}

PyObject *read_bignum(Decoder *d, uint64_t tag) {
    uint64_t length;
    if (expect(d, BYTES, &length)) return NULL;
    const uint8_t *start = string(d, length);
    if (!start) return NULL;
#if PY_VERSION_HEX >= 0x030D0000
    PyObject *value = PyLong_FromUnsignedNativeBytes(start, length, Py_ASNATIVEBYTES_BIG_ENDIAN);
#else
    PyObject *value = _PyLong_FromByteArray(start, length, 0, 0);
#endif
    if (!value || tag == TAG_POS_BIGNUM) return value;
    PyObject *result = PyNumber_Invert(value);
    Py_DECREF(value);
    return result;
}

PyObject *read_simple(const Head *h) {
    switch (h->info) {
    case CBOR_FALSE: Py_RETURN_FALSE;
    case CBOR_TRUE: Py_RETURN_TRUE;
    case CBOR_NULL: Py_RETURN_NONE;
    case CBOR_FLOAT16: {
        const char half[2] = {(char)(h->value >> 8), (char)h->value};
        double x = PyFloat_Unpack2(half, 0);
        return x == -1.0 && PyErr_Occurred() ? NULL : PyFloat_FromDouble(x);
    }
    case CBOR_FLOAT32: {
        uint32_t bits = (uint32_t)h->value;
        float x;
        memcpy(&x, &bits, 4);
        return PyFloat_FromDouble(x);
    }
    case CBOR_FLOAT64: {
        double x;
        memcpy(&x, &h->value, 8);
        return PyFloat_FromDouble(x);
    }
    }
    return bad("cbor: a simple value that is not used");
}

/* Texts. Keys repeat from message to message, so short ASCII ones are interned and cached. */

enum { KEY_BYTES = 32, KEY_SLOTS = 512 };
static PyObject *keys[KEY_SLOTS] HOT;

PyObject *read_text(Decoder *d, uint64_t length) {
    const uint8_t *start = string(d, length);
    return start ? PyUnicode_DecodeUTF8((const char *)start, (Py_ssize_t)length, NULL) : NULL;
}

PyObject *read_key(Decoder *d) {
    uint64_t length;
    if (d->p < d->end && cbor_major(d->p) != TEXT) return bad("cbor: the key of a plain map is text");
    if (expect(d, TEXT, &length)) return NULL;
    if (length > KEY_BYTES || length > (uint64_t)(d->end - d->p)) return read_text(d, length);
    uint32_t hash = 2166136261u;
    for (uint64_t i = 0; i < length; i++) hash = (hash ^ d->p[i]) * 16777619u;
    PyObject **slot = &keys[(hash ^ hash >> 16) % KEY_SLOTS], *found = *slot;
    if (found && (uint64_t)PyUnicode_GET_LENGTH(found) == length && !memcmp(PyUnicode_1BYTE_DATA(found), d->p, length)) {
        d->p += length;
        return Py_NewRef(found);
    }
    PyObject *made = read_text(d, length);
    if (made && PyUnicode_IS_COMPACT_ASCII(made)) {
        PyUnicode_InternInPlace(&made);
        Py_XSETREF(*slot, Py_NewRef(made));
    }
    return made;
}

PyObject *read_surrogates(Decoder *d) {
    uint64_t length;
    const uint8_t *start = expect(d, BYTES, &length) ? NULL : string(d, length);
    return start ? PyUnicode_DecodeUTF8((const char *)start, (Py_ssize_t)length, "surrogatepass") : NULL;
}
