/* The validator: the last code that runs before the host reads a reply, or a request to it. */
#ifndef CLOCHE_CHECK_H
#define CLOCHE_CHECK_H
#include <stdint.h>

/* 1 if the n bytes at p are exactly one CBOR item of the profile in docs/reference/wire.md, of at most max_nodes items and at most
   max_depth containers deep, and lie between __heap_base and the end of memory; else 0.

   A node may overwrite every byte of linear memory, so the result must depend on none but those at p: check.c has no data and
   stores nothing. The only address in it is that of __heap_base, a constant in code, which no node can change. The build refuses
   its object file for any other memory relocation, a data segment, a store or the shadow stack (imagebuild/link.py). Nothing
   else runs during the check, and the bytes lie above the shadow stack, so they cannot change after it. */
int check_item(const uint8_t *p, uint32_t n, uint32_t max_nodes, uint32_t max_depth);

/* How many nodes such an item has, with no limit on their number; 0 if check_item refuses it for another reason. */
uint32_t count_items(const uint8_t *p, uint32_t n, uint32_t max_depth);

#endif
