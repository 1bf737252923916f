/* The tape of a recorded guest: the frames that go in and come out, noted where they pass, so that recording a call costs a copy
   of its bytes. Python owns the buffer and empties it between two calls (cloche/_wasm/journal.py).

   An entry is a byte of enum cloche_taped, four bytes of length and the bytes. */
#include "core.h"
#include <string.h>

enum { HEAD = 5, END = 10 };

int tape_is_on(const struct guest *guest) { return guest->words[WORD_JOURNAL_MODE] != JOURNAL_MODE_OFF; }

static void add(struct guest *guest, int kind, const void *bytes, size_t length, size_t kept_free) {
    uint64_t *words = guest->words, at = words[WORD_TAPE_AT], left = words[WORD_TAPE_BYTES] - at;
    if (at > words[WORD_TAPE_BYTES] || length > UINT32_MAX || left < HEAD + kept_free || left - HEAD - kept_free < length) {
        guest->tape_lost = 1;
        return;
    }
    uint8_t *to = (uint8_t *)(uintptr_t)words[WORD_TAPE] + at;
    uint32_t size = (uint32_t)length;
    *to = (uint8_t)kind;
    memcpy(to + 1, &size, sizeof size);
    if (length) memcpy(to + HEAD, bytes, length);
    words[WORD_TAPE_AT] = at + HEAD + length;
}

void tape_begin(struct guest *guest, const uint8_t *message, size_t length) {
    guest->taped = 1;
    guest->journal_from = guest->words[WORD_JOURNAL_AT];
    guest->tape_lost = guest->tape_told = 0;
    memset(guest->read, 0, sizeof guest->read); /* the readings of each call are told apart from those of the call before */
    tape_add(guest, TAPED_SENT, message, length);
}

void tape_add(struct guest *guest, int kind, const uint8_t *bytes, size_t length) { add(guest, kind, bytes, length, HEAD + END); }

void tape_answered(struct guest *guest, uint64_t code) {
    uint8_t fields[2] = {(uint8_t)code, (uint8_t)LOAD(guest->words[WORD_TOLD])};
    if (code == ANSWER_INTERRUPTED) guest->tape_told = 1;
    else fields[1] = 0;
    tape_add(guest, TAPED_ANSWERED, fields, sizeof fields);
}

void tape_end(struct guest *guest) {
    uint64_t *words = guest->words, told = LOAD(words[WORD_TOLD]);
    int records = words[WORD_JOURNAL_MODE] == JOURNAL_MODE_RECORD;
    uint32_t from = records ? (uint32_t)guest->journal_from : 0, to = records ? (uint32_t)words[WORD_JOURNAL_AT] : 0;
    /* a guest that was told to stop neither in a sleep nor by an answer was told where nobody can find the place again */
    uint8_t exact = !(told && !guest->tape_told && !words[WORD_JOURNAL_TOLD]) && !guest->tape_lost;
    if (records && words[WORD_JOURNAL_LOST]) exact = 0;
    uint8_t fields[END];
    memcpy(fields, &from, sizeof from);
    memcpy(fields + 4, &to, sizeof to);
    fields[8] = (uint8_t)told, fields[9] = exact;
    add(guest, TAPED_ENDED, fields, sizeof fields, 0);
    guest->taped = 0;
    if (records) words[WORD_JOURNAL_LOST] = 0;
    words[WORD_JOURNAL_TOLD] = 0;
    words[WORD_TAPE_CALLS]++;
    if (!exact) words[WORD_TAPE_WANTS] |= 2;
    if (words[WORD_TAPE_AT] > words[WORD_TAPE_BYTES] / 128 || to > words[WORD_JOURNAL_BYTES] / 8 ||
        words[WORD_TAPE_CALLS] >= words[WORD_TAPE_MOST])
        words[WORD_TAPE_WANTS] |= 1;
}
