/* A record of output is [fd, bytes] (docs/reference/wire.md, "The log ring"). */
#include "output.h"
#include "cbor.h"
#include "hot.h"
#include "live.h"
#include "ring.h"
#include "wasi.h"
#include <string.h>

static uint64_t written HOT, limit HOT = UINT64_MAX; /* bytes, in this call */

void output_set_limit(uint64_t bytes) { limit = bytes; }
void output_begin_call(void) { written = 0; }

void output_count(uint64_t n) {
    written += n;
    if (written > limit) wasi_exit(EXIT_OUTPUT | (written < EXIT_OUTPUT ? (uint32_t)written : EXIT_OUTPUT - 1));
}

void output_write(int fd, const uint8_t *p, size_t n) {
    enum { PIECE = 4096, HEADS = 3 * CBOR_HEAD_BYTES };
    uint8_t record[HEADS + PIECE];
    output_count(n);
    for (size_t some; n; p += some, n -= some) {
        some = n < PIECE ? n : PIECE;
        uint32_t size = cbor_put_head(record, ARRAY, 2, 0);
        size += cbor_put_head(record + size, UINT, (uint64_t)fd, cbor_width((uint64_t)fd));
        size += cbor_put_head(record + size, BYTES, some, cbor_width(some));
        memcpy(record + size, p, some);
        ring_put(record, size + (uint32_t)some);
        live_tell();
    }
}
