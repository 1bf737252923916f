/* The log ring: a bounded queue of records that the host takes out of memory, also after a trap. */
#ifndef CLOCHE_RING_H
#define CLOCHE_RING_H
#include <stdint.h>
#include "wire/abi.h"

/* See docs/reference/wire.md, "The log ring". The host reads it whole and then zeroes head, used, records and dropped. */
struct ring {
    uint32_t magic, capacity, head, used, records, dropped, held[2];
    uint8_t bytes[RING_CAPACITY], lines[2][RING_HELD_BYTES];
};
extern struct ring cloche_ring;

/* Appends one record. Without room it drops the oldest ones; a record larger than the ring is dropped itself. */
void ring_put(const uint8_t *p, uint32_t n);

/* From here on records belong to that item of a batch. The first of them is preceded by a record [RING_ITEM, number]. */
void ring_mark(uint32_t number);
void ring_begin_call(void); /* records belong to no item */

/* Keeps one record of stdout (1) or stderr (2) beside the ring, in place of the one before; length 0: none. Returns whether it fits. */
int ring_hold(uint32_t stream, const uint8_t *p, uint32_t n);

#endif
