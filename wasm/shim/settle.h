/* Prepares the heap for the snapshot, so that an instance made from it writes to few pages; see settle.c. */
#ifndef CLOCHE_SETTLE_H
#define CLOCHE_SETTLE_H
void settle_heap(void);
#endif
