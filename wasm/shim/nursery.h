/* Small blocks of a young sandbox, of all sizes beside each other; see nursery.c. */
#ifndef CLOCHE_NURSERY_H
#define CLOCHE_NURSERY_H
void nursery_open(void);
#endif
