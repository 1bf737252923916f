/* The C library's header, and what CPython's configure would have found with the functions of shim/maps.c. */
#include_next <sys/mman.h>
#ifndef CLOCHE_MMAN_H
#define CLOCHE_MMAN_H
#define HAVE_MREMAP 1
#define HAVE_MADVISE 1
#define MAP_32BIT 0x40
#endif
