/* Where the C library's writes to descriptors 1 and 2 end up, and how the guest ends itself. */
#ifndef CLOCHE_OUTPUT_H
#define CLOCHE_OUTPUT_H
#include <stddef.h>
#include <stdint.h>

void output_write(int fd, const uint8_t *p, size_t n); /* the linked program provides it */
_Noreturn void wasi_exit(uint32_t code);               /* tells the host, then traps */
#endif
