/* What wasi.c asks of the host besides the calls of WASI. */
#ifndef CLOCHE_WASI_H
#define CLOCHE_WASI_H
#include <stddef.h>
#include <stdint.h>

_Noreturn void wasi_exit(uint32_t code); /* tells the host, then traps */
uint64_t wasi_now(void);                 /* nanoseconds since 1970 */
uint64_t wasi_monotonic(void);           /* nanoseconds since some time */
void wasi_random(uint8_t *p, size_t n);

#endif
