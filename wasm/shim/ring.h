/* The log ring: a bounded queue of records that the host takes out of memory, also after a trap. */
#ifndef CLOCHE_RING_H
#define CLOCHE_RING_H
#include <stdint.h>
#include "wire.h"

/* docs/reference/wire.md, "The log ring". The host reads all of it and zeroes head, used, records and dropped. */
struct ring {
    uint32_t magic, capacity, head, used, records, dropped, reserved0, reserved1;
    uint8_t bytes[WIRE_RING_CAPACITY];
};
extern struct ring cloche_ring;

/* Appends one record, over the oldest ones if there is no room; one that can never fit is counted as dropped. */
void ring_put(const uint8_t *p, uint32_t n);

#endif
