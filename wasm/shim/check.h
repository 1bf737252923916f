/* The validator of replies: the last code that runs before the host reads one. */
#ifndef CLOCHE_CHECK_H
#define CLOCHE_CHECK_H
#include <stdint.h>

/* 1 if the n bytes at p are exactly one CBOR item of the profile in docs/reference/wire.md, of at most max_nodes items and at
   most max_depth containers deep, and lie between __heap_base and the end of memory; else 0.

   A node may own every byte of linear memory, so the answer must not depend on any: check.c keeps no data and
   writes nothing. Its only address constant is that of __heap_base, an immediate in immutable code; the build may
   refuse its object file for any other memory relocation, for a data segment and for a store instruction. The bytes
   at p are read while nothing else runs, and lie above the shadow stack, so they cannot change after the check. */
int check_item(const uint8_t *p, uint32_t n, uint32_t max_nodes, uint32_t max_depth);

/* How many items there are, whatever their number, or 0 where check_item would refuse them all the same. */
uint32_t count_items(const uint8_t *p, uint32_t n, uint32_t max_depth);

#endif
