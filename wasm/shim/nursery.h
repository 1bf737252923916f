/* The allocator of a young sandbox's small blocks; see nursery.c. */
#ifndef CLOCHE_NURSERY_H
#define CLOCHE_NURSERY_H
void nursery_open(void); /* from here on CPython's small blocks come from the nursery, until it is full */
#endif
