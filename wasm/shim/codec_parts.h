/* What decode.c, encode.c and codec.c share; nobody else includes this. */
#ifndef CLOCHE_CODEC_PARTS_H
#define CLOCHE_CODEC_PARTS_H
#include "codec.h"
#include "wire.h"

enum { UINT, NEGATIVE, BYTES, TEXT, ARRAY, MAP, TAG, SIMPLE };

extern struct codec {
    PyObject *encode, *decode; /* the hooks */
    size_t reply_bytes;
    uint32_t depth;
} codec;

/* A Block that owns `address`; on failure the memory is freed. */
PyObject *block_new(void *address, size_t size);

#endif
