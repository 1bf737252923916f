/* Heads of CBOR items (RFC 8949, section 3): the only place that reads and writes them.

   A head is one byte, major type and info, and behind it an argument of 0, 1, 2, 4 or 8 bytes. All functions are inlined and keep
   nothing: the validator of replies (check.c) may not touch memory but to read the reply. */
#ifndef CLOCHE_CBOR_H
#define CLOCHE_CBOR_H
#include <stddef.h>
#include <stdint.h>

enum { UINT, NEGATIVE, BYTES, TEXT, ARRAY, MAP, TAG, SIMPLE }; /* major types */
enum { CBOR_FALSE = 20, CBOR_TRUE = 21, CBOR_NULL = 22, CBOR_FLOAT16 = 25, CBOR_FLOAT32 = 26, CBOR_FLOAT64 = 27 };
enum { CBOR_HEAD_BYTES = 9 }; /* of the longest head */

#define CBOR_BYTE(major, info) ((uint8_t)((major) << 5 | (info))) /* the first byte of a head */

/* ---- reading. `head` points to the first byte, which must exist but for cbor_head_size. */
static inline int cbor_major(const uint8_t *head) { return *head >> 5; }
static inline int cbor_info(const uint8_t *head) { return *head & 31; }

/* How many bytes the head takes; 0 if `left` are too few, or if its length is indefinite or reserved. */
static inline uint32_t cbor_head_size(const uint8_t *head, size_t left) {
    if (!left) return 0;
    int info = cbor_info(head);
    if (info < 24) return 1;
    if (info > 27) return 0;
    uint32_t size = 1 + (1u << (info - 24));
    return size <= left ? size : 0;
}

/* The argument of a head of `size` bytes, as cbor_head_size says. */
static inline uint64_t cbor_argument(const uint8_t *head, uint32_t size) {
    if (size == 1) return (uint64_t)cbor_info(head);
    uint64_t value = 0;
    for (uint32_t i = 1; i < size; i++) value = value << 8 | head[i];
    return value;
}

/* ---- writing */
static inline uint32_t cbor_put(uint8_t *to, int major, int info, uint64_t argument, int width) {
    *to++ = CBOR_BYTE(major, info);
    for (int i = width; i--; argument >>= 8) to[i] = (uint8_t)argument;
    return 1 + (uint32_t)width;
}

/* How many bytes behind the first one the shortest head with that argument takes. */
static inline int cbor_width(uint64_t argument) {
    return argument < 24 ? 0 : argument <= UINT8_MAX ? 1 : argument <= UINT16_MAX ? 2 : argument <= UINT32_MAX ? 4 : 8;
}

/* Writes the head whose argument has that width, and returns its size. */
static inline uint32_t cbor_put_head(uint8_t *to, int major, uint64_t argument, int width) {
    return cbor_put(to, major, width ? 24 + __builtin_ctz((unsigned)width) : (int)argument, argument, width);
}

#endif
