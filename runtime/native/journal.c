/* The journal of a guest: what its imports have answered, in order, so that a call can be made again with the same answers
   (docs/reference/recordings.md). Python owns the buffer and reads or fills it between two calls.

   One answer is a byte of enum cloche_answered and a number (LEB128): of a clock, the zigzag of the difference to its last reading
   in this buffer; of the random source, eight bytes instead of the number; of a sleep, the enum cloche_reason for which it was
   cut short, or 0. */
#include "core.h"
#include <string.h>

enum { LONGEST = 11 };

static uint64_t difference(struct guest *guest, int kind, uint64_t value) {
    uint64_t step = value - guest->read[kind];
    guest->read[kind] = value;
    return step << 1 ^ (0 - (step >> 63));
}

void journal_note(struct guest *guest, int kind, uint64_t value) {
    uint64_t *words = guest->words, at = words[WORD_JOURNAL_AT];
    uint8_t *to = (uint8_t *)(uintptr_t)words[WORD_JOURNAL] + at;
    if (words[WORD_JOURNAL_BYTES] < LONGEST || at > words[WORD_JOURNAL_BYTES] - LONGEST) {
        words[WORD_JOURNAL_LOST]++;
        return;
    }
    *to++ = (uint8_t)kind;
    if (kind == ANSWERED_RANDOM) {
        memcpy(to, &value, sizeof value);
        words[WORD_JOURNAL_AT] = at + 1 + sizeof value;
        return;
    }
    if (kind < ANSWERED_RANDOM) value = difference(guest, kind, value);
    for (; value > 0x7f; value >>= 7) *to++ = (uint8_t)(value | 0x80);
    *to++ = (uint8_t)value;
    words[WORD_JOURNAL_AT] = (uint64_t)(uintptr_t)to - words[WORD_JOURNAL];
}

/* The next answer; 0: the journal has none of that kind there. */
static int next(struct guest *guest, int kind, uint64_t *value) {
    uint64_t *words = guest->words, number = 0;
    const uint8_t *from = (const uint8_t *)(uintptr_t)words[WORD_JOURNAL];
    const uint8_t *at = from + words[WORD_JOURNAL_AT], *end = from + words[WORD_JOURNAL_BYTES];
    if (words[WORD_JOURNAL_AT] >= words[WORD_JOURNAL_BYTES] || *at++ != kind) return 0;
    if (kind == ANSWERED_RANDOM) {
        if (end - at < (int)sizeof *value) return 0;
        memcpy(value, at, sizeof *value);
        words[WORD_JOURNAL_AT] = (uint64_t)(at + sizeof *value - from);
        return 1;
    }
    for (int shift = 0;; shift += 7, at++) {
        if (at == end || shift > 63) return 0;
        number |= (uint64_t)(*at & 0x7f) << shift;
        if (!(*at & 0x80)) break;
    }
    words[WORD_JOURNAL_AT] = (uint64_t)(at + 1 - from);
    *value = kind < ANSWERED_RANDOM ? guest->read[kind] += number >> 1 ^ (0 - (number & 1)) : number;
    return 1;
}

int journal_take(struct guest *guest, int kind, uint64_t *value) {
    if (next(guest, kind, value)) return 1;
    guest->words[WORD_JOURNAL_LOST]++;
    guest->words[WORD_JOURNAL_AT] = guest->words[WORD_JOURNAL_BYTES]; /* what follows belongs to another run */
    *value = kind < ANSWERED_RANDOM ? guest->read[kind] : 0;
    return 0;
}
