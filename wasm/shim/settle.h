/* Makes the heap ready for the snapshot, so that an instance that starts from it writes to few pages. */
#ifndef CLOCHE_SETTLE_H
#define CLOCHE_SETTLE_H
void settle_heap(void);
#endif
