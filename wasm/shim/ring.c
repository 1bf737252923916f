/* A record is its length in 4 bytes, little-endian, and its bytes; both may wrap around the end of the ring. */
#include "ring.h"
#include "cbor.h"
#include "hot.h"
#include <stddef.h>
#include <string.h>

_Static_assert((RING_CAPACITY & (RING_CAPACITY - 1)) == 0, "offsets wrap by a mask");
_Static_assert(sizeof(struct ring) == RING_HEADER_BYTES + RING_CAPACITY + 2 * RING_HELD_BYTES,
               "the header is as the host reads it");
#define WORD_IS_AT(name) _Static_assert(offsetof(struct ring, name) == 4 * RING_##name, #name)
WORD_IS_AT(magic);
WORD_IS_AT(capacity);
WORD_IS_AT(head);
WORD_IS_AT(used);
WORD_IS_AT(records);
WORD_IS_AT(dropped);
#define WRAP(offset) ((offset) & (RING_CAPACITY - 1))

static uint32_t item HOT;
static int has_item HOT; /* whether `item` is still to be put, before the next record */

struct ring cloche_ring = {.magic = RING_MAGIC, .capacity = RING_CAPACITY};

static void put(uint32_t at, const uint8_t *p, uint32_t n) {
    at = WRAP(at);
    uint32_t first = n < RING_CAPACITY - at ? n : RING_CAPACITY - at;
    memcpy(cloche_ring.bytes + at, p, first);
    memcpy(cloche_ring.bytes, p + first, n - first);
}

/* Drops the oldest record. An impossible length means that the node has overwritten the ring, which is then emptied. */
static void drop(void) {
    struct ring *r = &cloche_ring;
    uint8_t b[4];
    for (uint32_t i = 0; i < 4; i++) b[i] = r->bytes[WRAP(r->head + i)];
    uint32_t size = (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
    r->dropped++;
    if (r->used < 4 || size > r->used - 4) {
        r->head = r->used = r->records = 0;
        return;
    }
    r->head = WRAP(r->head + 4 + size);
    r->used -= 4 + size;
    r->records--;
}

void ring_begin_call(void) { has_item = 0; }
void ring_mark(uint32_t number) {
    item = number;
    has_item = 1;
}
static void put_mark(void) {
    uint8_t record[3 * CBOR_HEAD_BYTES];
    has_item = 0;
    uint32_t size = cbor_put_head(record, ARRAY, 2, 0);
    size += cbor_put_head(record + size, UINT, RING_ITEM, 0);
    size += cbor_put_head(record + size, UINT, item, cbor_width(item));
    ring_put(record, size);
}

void ring_put(const uint8_t *p, uint32_t n) {
    struct ring *r = &cloche_ring;
    if (has_item) put_mark();
    if (n > RING_CAPACITY - 4) {
        r->dropped++;
        return;
    }
    if (r->used > RING_CAPACITY) r->used = r->head = r->records = 0;
    while (r->used && n + 4 > RING_CAPACITY - r->used) drop();
    const uint8_t size[4] = {n & 255, n >> 8 & 255, n >> 16 & 255, n >> 24};
    put(r->head + r->used, size, 4);
    put(r->head + r->used + 4, p, n);
    r->used += 4 + n;
    r->records++;
}

int ring_hold(uint32_t stream, const uint8_t *p, uint32_t n) {
    if (stream - 1 > 1 || n > RING_HELD_BYTES) return 0;
    cloche_ring.held[stream - 1] = 0; /* no break can leave the length of one record with the bytes of another */
    memcpy(cloche_ring.lines[stream - 1], p, n);
    cloche_ring.held[stream - 1] = n;
    return 1;
}
