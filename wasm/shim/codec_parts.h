/* What the files of the codec share. No other file includes this. */
#ifndef CLOCHE_CODEC_PARTS_H
#define CLOCHE_CODEC_PARTS_H
#include "codec.h"
#include "cbor.h"
#include "wire/abi.h"
#include "wire/tags.h"

extern struct codec {
    PyObject *encode, *decode; /* the hooks */
    size_t reply_bytes;
    uint32_t nodes, depth;
} codec;

/* A Block of the memory at `address`; with `owned` it is freed with the Block, and at once on failure. */
PyObject *block_new(void *address, size_t size, int owned);

#endif
