/* What is written to stdout and stderr. In the image: counted against the limit output_bytes of each call, and put into the log
   ring. */
#ifndef CLOCHE_OUTPUT_H
#define CLOCHE_OUTPUT_H
#include <stddef.h>
#include <stdint.h>

void output_write(int fd, const uint8_t *p, size_t n); /* the freezer has its own */

void output_set_limit(uint64_t bytes);
void output_begin_call(void);
void output_count(uint64_t n); /* ends the guest above the limit */

#endif
