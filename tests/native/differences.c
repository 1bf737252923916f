/* A guest's memory as its differences from the image's: found, written back, and refused. */
#include "fake.h"

enum { SMALL = 4096, MASK = 64, MOST = FAKE_MOST_PAGES * (PAGE / SMALL) };
static struct cloche_image image;
static uint32_t pages[MOST];
static uint8_t masks[MOST * MASK], words[MOST * SMALL];
static uint64_t found[2];

static uint8_t *base(struct made guest) { return (uint8_t *)guest.words[WORD_BASE]; }
static uint64_t size(struct made guest) { return guest.words[WORD_MEMORY_BYTES]; }
static struct made one(void) {
    struct made guest = make(&image);
    guest.words[WORD_GRANTED] = 1;
    return guest;
}
static int compare(struct made guest, struct made other) {
    size_t count = size(guest) / SMALL;
    for (size_t i = 0; i < count; i++) pages[i] = (uint32_t)i;
    int status = cloche_compare(guest.handle, other.handle, pages, count, masks, found);
    return status ? status : cloche_gather(guest.handle, (const uint8_t *)pages, found[0], masks, words, found[1]);
}
static void gone(struct made guest) { SAME(cloche_free(guest.handle), CLOCHE_DONE); }
static int patch(struct made guest) { return cloche_patch(guest.handle, (const uint8_t *)pages, found[0], masks, words, found[1]); }

CASE(differences_are_found_and_written_back) {
    image = fake_image(CLOCHE_GUARD);
    struct made guest = one(), pristine = one(), copy = one();
    SAME(compare(guest, pristine), CLOCHE_DONE);
    SAME(found[0], 0), SAME(found[1], 0);
    base(guest)[FAKE_HEAP + 15] = 7;
    base(guest)[FAKE_HEAP + SMALL - 1] = 8;
    memset(base(guest) + FAKE_HEAP + 3 * SMALL, 9, SMALL);
    SAME(compare(guest, pristine), CLOCHE_DONE);
    SAME(found[0], 2), SAME(found[1], 16 + SMALL);
    SAME(pages[0], FAKE_HEAP / SMALL), SAME(pages[1], FAKE_HEAP / SMALL + 3);
    SAME(masks[0], 2), SAME(masks[MASK - 1], 128), SAME(masks[MASK], 255), SAME(words[7], 7), SAME(words[15], 8),
        SAME(words[16], 9);
    SAME(patch(copy), CLOCHE_DONE);
    SAME(memcmp(base(copy), base(guest), size(guest)), 0);
    memset(base(guest) + FAKE_HEAP, 0, 4 * SMALL); /* it was written, and is again as the image's */
    SAME(compare(guest, pristine), CLOCHE_DONE);
    SAME(found[0], 0);
    gone(guest), gone(pristine), gone(copy);
    free(image.engine);
}

CASE(memory_behind_the_image_counts_as_zeros) {
    image = fake_image(CLOCHE_GUARD);
    struct made guest = one(), pristine = one(), copy = one();
    uint64_t end = size(guest);
    SAME(cloche_grow(guest.handle, end + 2 * PAGE), CLOCHE_DONE);
    SAME(compare(guest, pristine), CLOCHE_DONE);
    SAME(found[0], 0);
    base(guest)[end + PAGE] = 1;
    SAME(compare(guest, pristine), CLOCHE_DONE);
    SAME(found[0], 1), SAME(found[1], 8), SAME(pages[0], (end + PAGE) / SMALL);
    SAME(patch(copy), CLOCHE_REFUSED); /* it has not grown */
    SAME(cloche_grow(copy.handle, end + 2 * PAGE), CLOCHE_DONE);
    SAME(patch(copy), CLOCHE_DONE);
    SAME(memcmp(base(copy), base(guest), size(guest)), 0);
    gone(guest), gone(pristine), gone(copy);
    free(image.engine);
}

CASE(random_differences_come_back) {
    enum { ROUNDS = 200 };
    image = fake_image(CLOCHE_GUARD);
    struct made guest = one(), pristine = one(), copy = one();
    uint32_t seed = 5;
    for (int round = 0; round < ROUNDS; round++) {
        for (uint32_t n = (seed >> 20) % 40; n; n--) {
            seed = seed * 1664525 + 1013904223;
            uint32_t at = FAKE_HEAP + (seed >> 8) % (2 * PAGE), most = FAKE_HEAP + 2 * PAGE - at;
            memset(base(guest) + at, (int)seed, n % 3 ? 1 : n * 50 < most ? n * 50 : most);
        }
        seed = seed * 1664525 + 1013904223;
        SAME(compare(guest, pristine), CLOCHE_DONE);
        memcpy(base(copy), base(pristine), size(copy));
        SAME(patch(copy), CLOCHE_DONE);
        SAME(memcmp(base(copy), base(guest), size(guest)), 0);
    }
    gone(guest), gone(pristine), gone(copy);
    free(image.engine);
}

CASE(differences_that_do_not_fit_are_refused) {
    image = fake_image(CLOCHE_GUARD);
    struct made guest = one();
    const uint8_t *at = (const uint8_t *)pages;
    static const uint32_t outside[] = {FAKE_PAGES * PAGE / SMALL, 1 << 20, UINT32_MAX};
    masks[3] = 5;
    for (int i = 0; i < 3; i++) {
        pages[0] = outside[i];
        SAME(cloche_compare(guest.handle, guest.handle, pages, 1, masks + MASK, found), CLOCHE_REFUSED);
        SAME(cloche_gather(guest.handle, at, 1, masks, words, 16), CLOCHE_REFUSED);
        SAME(cloche_patch(guest.handle, at, 1, masks, words, 16), CLOCHE_REFUSED);
    }
    pages[0] = FAKE_PAGES * PAGE / SMALL - 1;
    static const size_t lengths[] = {0, 8, 15, 17, 24, sizeof words};
    for (int i = 0; i < 6; i++) {
        SAME(cloche_patch(guest.handle, at, 1, masks, words, lengths[i]), CLOCHE_REFUSED);
        SAME(cloche_gather(guest.handle, at, 1, masks, words, lengths[i]), CLOCHE_REFUSED);
    }
    SAME(cloche_patch(guest.handle, at, 0, masks, words, 8), CLOCHE_REFUSED);
    SAME(cloche_patch(guest.handle, at, 1, masks, words, 16), CLOCHE_DONE);
    SAME(guest.words[WORD_STATE], CLOCHE_AT_REST);
    gone(guest);
    free(image.engine);
}

CASE(differences_of_a_guest_that_waits_are_refused) {
    image = fake_image(CLOCHE_GUARD);
    struct made guest = one(), pristine = one();
    SAME(run(guest, "a"), CLOCHE_ASKS);
    SAME(compare(guest, pristine), CLOCHE_BUSY);
    SAME(patch(guest), CLOCHE_BUSY);
    SAME(cloche_answer(guest.handle, NULL, 0, 9), CLOCHE_DONE);
    SAME(compare(guest, pristine), CLOCHE_DONE);
    SAME(cloche_free(pristine.handle), CLOCHE_DONE);
    SAME(compare(guest, pristine), CLOCHE_NO_GUEST);
    SAME(cloche_free(guest.handle), CLOCHE_DONE);
    SAME(patch(guest), CLOCHE_NO_GUEST);
    free(image.engine);
}

CASE(what_calls_have_left_on_the_stack_counts_for_nothing) {
    image = fake_image(CLOCHE_GUARD);
    struct made guest = one(), pristine = one();
    memset(base(guest), 1, 2 * SMALL); /* the stack has 4096 bytes here, see fake.c */
    SAME(compare(guest, pristine), CLOCHE_DONE);
    SAME(found[0], 1), SAME(pages[0], 1), SAME(found[1], SMALL);
    SAME(base(guest)[0], 0), SAME(base(guest)[SMALL - 1], 0), SAME(base(guest)[SMALL], 1);
    SAME(run(guest, "d"), CLOCHE_DONE); /* something is on it now */
    base(guest)[SMALL - 1] = 1;
    SAME(compare(guest, pristine), CLOCHE_DONE);
    SAME(pages[0], 0), SAME(masks[MASK - 1], 128), SAME(masks[0], 0), SAME(words[7], 1);
    SAME(base(guest)[SMALL - 1], 1);
    gone(guest), gone(pristine);
    free(image.engine);
}

CASE(records_that_were_taken_and_the_notice_count_for_nothing) {
    image = fake_image(CLOCHE_GUARD);
    struct made guest = one(), pristine = one();
    uint8_t *ring = base(guest) + FAKE_RING, *notice = base(guest) + FAKE_NOTICE;
    memset(ring + 16, 1, 48); /* the records, and the lines that are held behind them */
    memset(notice, 1, NOTICE_BYTES);
    SAME(compare(guest, pristine), CLOCHE_DONE);
    SAME(found[0], 0), SAME(ring[16], 0), SAME(ring[63], 0), SAME(notice[NOTICE_BYTES - 1], 0);
    memset(ring + 16, 1, 48);
    ring[12] = 1; /* a line is held */
    SAME(compare(guest, pristine), CLOCHE_DONE);
    SAME(found[0], 1), SAME(found[1], 8 + 16), SAME(ring[47], 0), SAME(ring[48], 1), SAME(ring[12], 1);
    memset(ring + 16, 1, 48);
    ring[0] = 1; /* there are records */
    SAME(compare(guest, pristine), CLOCHE_DONE);
    SAME(found[1], 64), SAME(ring[16], 1);
    gone(guest), gone(pristine);
    free(image.engine);
}
