/* The decoder's state, and its parts: heads and strings (here, to be inlined), numbers and texts (read.c), all else (decode.c). */
#ifndef CLOCHE_DECODE_H
#define CLOCHE_DECODE_H
#include "codec_parts.h"

typedef struct {
    const uint8_t *p, *end;
    uint64_t owed; /* items that the open containers still wait for; each takes at least one byte */
    uint32_t depth;
    int blocks; /* whether tags with [address, length] are allowed: a message of the host */
} Decoder;

typedef struct {
    int major, info;
    uint64_t value;
} Head;

static inline PyObject *bad(const char *message) {
    PyErr_SetString(PyExc_ValueError, message);
    return NULL;
}

static inline int head(Decoder *d, Head *h) {
    size_t left = (size_t)(d->end - d->p);
    uint32_t size = cbor_head_size(d->p, left);
    if (!size) {
        bad(left && cbor_info(d->p) > CBOR_FLOAT64 ? "cbor: indefinite or reserved length" : "cbor: the bytes end too early");
        return -1;
    }
    h->major = cbor_major(d->p);
    h->info = cbor_info(d->p);
    h->value = cbor_argument(d->p, size);
    d->p += size;
    return 0;
}

static inline int expect(Decoder *d, int major, uint64_t *value) {
    const uint8_t *start = d->p;
    Head h;
    if (head(d, &h)) return -1;
    if (h.major == major) return *value = h.value, 0;
    d->p = start;
    return bad("cbor: a tag has content of the wrong type"), -1;
}

/* Moves past a string of this length; its start, or NULL. */
static inline const uint8_t *string(Decoder *d, uint64_t length) {
    const uint8_t *start = d->p;
    if (length > (uint64_t)(d->end - start)) return bad("cbor: the bytes end too early"), NULL;
    d->p += length;
    return start;
}

/* read.c; unless they say otherwise, the head (or the head of the tag) has been read */
PyObject *read_negative(uint64_t value);
PyObject *read_bignum(Decoder *d, uint64_t tag);
PyObject *read_simple(const Head *h);
PyObject *read_text(Decoder *d, uint64_t length);
PyObject *read_surrogates(Decoder *d);
PyObject *read_key(Decoder *d); /* reads the head itself */

#endif
