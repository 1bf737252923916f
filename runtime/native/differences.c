/* A guest's memory as its differences from the image's: found for a snapshot, and written back for a restore.

   Memory is compared in pages of 4096 bytes, on every machine, and in words of 8 bytes. A page that differs has a mask of 512 bits:
   bit i, counted from the lowest bit of the first byte, says whether word i differs. Then come the words themselves. So the
   differences of a memory are the same bytes wherever they are found, and never larger than the pages with their masks.

   What calls have left behind in memory that nobody reads any more is overwritten with the image's bytes first, or else equal states
   would differ by it. That is the stack, which is empty at rest (the image is linked with --stack-first, so it is all memory
   below the stack pointer); the log ring, once the host has taken all records; the words of the notice. What is in there
   depends on when a poll or a notice came, on how records were taken, and on how items were batched. */
#include "core.h"
#include <string.h>

enum { PAGE_BYTES = 4096, WORD_BYTES = 8, GROUP = 64, GROUP_BYTES = GROUP * WORD_BYTES, GROUPS = PAGE_BYTES / GROUP_BYTES };
static const uint8_t zeros[PAGE_BYTES];

static uint64_t word_at(const uint8_t *group, int i) {
    uint64_t word;
    memcpy(&word, group + i * WORD_BYTES, sizeof word);
    return word;
}

/* Which of 64 words differ. In eights: twice as fast as one loop, whose shifts the compiler does one by one. */
static uint64_t differing(const uint8_t *have, const uint8_t *image) {
    uint64_t mask = 0;
    if (!memcmp(have, image, GROUP_BYTES)) return 0;
    for (int i = 0; i < GROUP; i += 8) {
        uint64_t eight = 0;
        for (int k = 0; k < 8; k++) eight |= (uint64_t)(word_at(have, i + k) != word_at(image, i + k)) << k;
        mask |= eight << i;
    }
    return mask;
}

static uint64_t size_of(struct guest *guest) { return engine.memory_size(guest->context, &guest->memory.of); }
static int has_page(uint64_t size, uint32_t page) { return ((uint64_t)page + 1) * PAGE_BYTES <= size; }
/* Bytes of the words of a page's mask. */
static uint64_t words_of(const uint64_t *mask) {
    uint64_t count = 0;
    for (int g = 0; g < GROUPS; g++) count += (uint64_t)__builtin_popcountll(mask[g]);
    return count * WORD_BYTES;
}
/* Memory that nobody reads any more. */
struct dead {
    uint64_t from, to;
};
enum { STACK, RING, NOTICE, DEAD };
static void find_dead(struct guest *guest, struct dead *dead) {
    const struct cloche_image *image = guest->image;
    struct engine_val value;
    uint32_t used, held[2];
    const uint8_t *ring = guest->base + guest->words[WORD_RING];
    engine.global_get(guest->context, &guest->stack_pointer.of, &value);
    memcpy(&used, ring + image->ring_used_at, sizeof used);
    memcpy(held, ring + image->ring_held_at, sizeof held);
    dead[STACK] = (struct dead){0, value.of.i32 == guest->stack_top ? (uint32_t)value.of.i32 : 0};
    dead[RING].from = guest->words[WORD_RING] + image->ring_header_bytes;
    dead[RING].to = held[0] || held[1] ? dead[RING].from + image->ring_capacity : guest->words[WORD_RING] + image->ring_bytes;
    if (used) dead[RING].to = dead[RING].from;
    dead[NOTICE] = (struct dead){guest->words[WORD_NOTICE], guest->words[WORD_NOTICE] + NOTICE_BYTES};
}

static void forget(uint8_t *page, const uint8_t *image, uint64_t start, const struct dead *dead) {
    for (int i = 0; i < DEAD; i++) {
        uint64_t from = dead[i].from > start ? dead[i].from : start;
        uint64_t to = dead[i].to < start + PAGE_BYTES ? dead[i].to : start + PAGE_BYTES;
        if (from < to) memcpy(page + (from - start), image + (from - start), to - from);
    }
}

CLOCHE_EXPORT int cloche_compare(uint64_t handle, uint64_t image, uint32_t *pages, size_t count, uint8_t *masks, uint64_t *found) {
    struct guest *guest = guest_find(handle), *other = guest_find(image);
    if (!guest || !other) return CLOCHE_NO_GUEST;
    int status = guest_take(guest, handle, CLOCHE_AT_REST);
    if (status) return status;
    uint64_t size = size_of(guest), image_size = size_of(other), bytes = 0;
    struct dead dead[DEAD];
    find_dead(guest, dead);
    size_t kept = 0;
    for (size_t n = 0; n < count; n++) {
        uint32_t page = pages[n];
        if (!has_page(size, page)) {
            status = CLOCHE_REFUSED;
            break;
        }
        uint8_t *have = guest->base + (uint64_t)page * PAGE_BYTES;
        const uint8_t *want = has_page(image_size, page) ? other->base + (uint64_t)page * PAGE_BYTES : zeros;
        forget(have, want, (uint64_t)page * PAGE_BYTES, dead);
        uint64_t mask[GROUPS];
        for (int g = 0; g < GROUPS; g++) mask[g] = differing(have + g * GROUP_BYTES, want + g * GROUP_BYTES);
        uint64_t wanted = words_of(mask);
        if (!wanted) continue;
        memcpy(masks + kept * sizeof mask, mask, sizeof mask);
        pages[kept++] = page;
        bytes += wanted;
    }
    found[0] = kept, found[1] = bytes;
    STORE(guest->words[WORD_STATE], CLOCHE_AT_REST);
    return status;
}

/* Copy the words of a mask: from their places in a page to a row, or from a row to their places. */
static void copy_words(uint8_t *page, uint8_t *row, const uint64_t *mask, int to_row) {
    for (int g = 0; g < GROUPS; g++, page += GROUP_BYTES) {
        uint64_t left = mask[g];
        if (left == UINT64_MAX) {
            memcpy(to_row ? row : page, to_row ? page : row, GROUP_BYTES);
            row += GROUP_BYTES;
            continue;
        }
        for (; left; left &= left - 1, row += WORD_BYTES) {
            uint8_t *word = page + __builtin_ctzll(left) * WORD_BYTES;
            memcpy(to_row ? row : word, to_row ? word : row, WORD_BYTES);
        }
    }
}

static int copy_pages(uint64_t handle, const uint8_t *pages, size_t count, const uint8_t *masks, uint8_t *words, size_t length,
                      int to_row) {
    struct guest *guest = guest_find(handle);
    if (!guest) return CLOCHE_NO_GUEST;
    int status = guest_take(guest, handle, CLOCHE_AT_REST);
    if (status) return status;
    uint64_t size = size_of(guest), mask[GROUPS];
    for (size_t n = 0; n < count; n++, masks += sizeof mask) {
        uint32_t page;
        memcpy(&page, pages + n * sizeof page, sizeof page);
        memcpy(mask, masks, sizeof mask);
        uint64_t wanted = words_of(mask);
        if (!has_page(size, page) || wanted > length) {
            status = CLOCHE_REFUSED;
            break;
        }
        copy_words(guest->base + (uint64_t)page * PAGE_BYTES, words, mask, to_row);
        words += wanted;
        length -= wanted;
    }
    if (length) status = CLOCHE_REFUSED;
    STORE(guest->words[WORD_STATE], CLOCHE_AT_REST);
    return status;
}

CLOCHE_EXPORT int cloche_gather(uint64_t handle, const uint8_t *pages, size_t count, const uint8_t *masks, uint8_t *words,
                                size_t length) {
    return copy_pages(handle, pages, count, masks, words, length, 1);
}

CLOCHE_EXPORT int cloche_patch(uint64_t handle, const uint8_t *pages, size_t count, const uint8_t *masks, const uint8_t *words,
                               size_t length) {
    return copy_pages(handle, pages, count, masks, (uint8_t *)words, length, 0); /* which only reads them */
}
