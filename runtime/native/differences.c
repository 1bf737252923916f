/* A guest's memory as its differences from the image's: found for a snapshot, and written back for a restore.

   Memory is compared in pages of 4096 bytes, on every machine, and in words of 8 bytes. A page that differs has a mask of 512 bits:
   bit i, counted from the lowest bit of the first byte, says whether word i differs. Then come the words themselves. So the
   differences of a memory are the same bytes wherever they are found, and never larger than the pages with their masks.

   The stack of a guest at rest is empty, and all memory below the stack pointer (the image is linked with --stack-first). What calls
   have left there is overwritten with the image's bytes, or else equal states would differ: the guest uses more of its stack
   when a poll or a notice came at another moment. */
#include "core.h"
#include <string.h>

enum { PAGE_BYTES = 4096, WORD_BYTES = 8, GROUP = 64, GROUP_BYTES = GROUP * WORD_BYTES, GROUPS = PAGE_BYTES / GROUP_BYTES };
static const uint8_t zeros[PAGE_BYTES];

/* Which of 64 words differ. */
static uint64_t differing(const uint8_t *have, const uint8_t *image) {
    uint64_t a[GROUP], b[GROUP], mask = 0;
    if (!memcmp(have, image, GROUP_BYTES)) return 0;
    memcpy(a, have, sizeof a);
    memcpy(b, image, sizeof b);
    for (int i = 0; i < GROUP; i++) mask |= (uint64_t)(a[i] != b[i]) << i;
    return mask;
}

static uint64_t size_of(struct guest *guest) { return engine.memory_size(guest->context, &guest->memory.of); }
static int has_page(uint64_t size, uint32_t page) { return ((uint64_t)page + 1) * PAGE_BYTES <= size; }
/* Bytes of the stack; 0 if something is on it. */
static uint64_t stack_size(struct guest *guest) {
    struct engine_val value;
    engine.global_get(guest->context, &guest->stack_pointer.of, &value);
    return value.of.i32 == guest->stack_top ? (uint32_t)value.of.i32 : 0;
}

CLOCHE_EXPORT int cloche_compare(uint64_t handle, uint64_t image, uint32_t *pages, size_t count, uint8_t *masks, uint8_t *words,
                                 uint64_t *found) {
    struct guest *guest = guest_find(handle), *other = guest_find(image);
    if (!guest || !other) return CLOCHE_NO_GUEST;
    int status = guest_take(guest, handle, CLOCHE_AT_REST);
    if (status) return status;
    uint64_t size = size_of(guest), image_size = size_of(other);
    uint64_t stack = stack_size(guest);
    const uint8_t *to = words;
    size_t kept = 0;
    for (size_t n = 0; n < count; n++) {
        uint32_t page = pages[n];
        if (!has_page(size, page)) {
            status = CLOCHE_REFUSED;
            break;
        }
        uint8_t *have = guest->base + (uint64_t)page * PAGE_BYTES;
        const uint8_t *want = has_page(image_size, page) ? other->base + (uint64_t)page * PAGE_BYTES : zeros;
        if (((uint64_t)page + 1) * PAGE_BYTES <= stack) {
            memcpy(have, want, PAGE_BYTES);
            continue;
        }
        uint64_t mask[GROUPS], any = 0;
        for (int g = 0; g < GROUPS; g++) {
            const uint8_t *group = have + g * GROUP_BYTES;
            any |= mask[g] = differing(group, want + g * GROUP_BYTES);
            for (uint64_t left = mask[g]; left; left &= left - 1, words += WORD_BYTES)
                memcpy(words, group + __builtin_ctzll(left) * WORD_BYTES, WORD_BYTES);
        }
        if (!any) continue;
        memcpy(masks + kept * sizeof mask, mask, sizeof mask);
        pages[kept++] = page;
    }
    found[0] = kept, found[1] = (uint64_t)(words - to);
    STORE(guest->words[WORD_STATE], CLOCHE_AT_REST);
    return status;
}

CLOCHE_EXPORT int cloche_patch(uint64_t handle, const uint8_t *pages, size_t count, const uint8_t *masks, const uint8_t *words,
                               size_t length) {
    struct guest *guest = guest_find(handle);
    if (!guest) return CLOCHE_NO_GUEST;
    int status = guest_take(guest, handle, CLOCHE_AT_REST);
    if (status) return status;
    uint64_t size = size_of(guest), mask[GROUPS];
    for (size_t n = 0; n < count && status == CLOCHE_DONE; n++, masks += sizeof mask) {
        uint32_t page;
        size_t wanted = 0;
        memcpy(&page, pages + n * sizeof page, sizeof page);
        memcpy(mask, masks, sizeof mask);
        for (int g = 0; g < GROUPS; g++) wanted += (size_t)__builtin_popcountll(mask[g]) * WORD_BYTES;
        if (!has_page(size, page) || wanted > length) {
            status = CLOCHE_REFUSED;
            break;
        }
        uint8_t *group = guest->base + (uint64_t)page * PAGE_BYTES;
        for (int g = 0; g < GROUPS; g++, group += GROUP_BYTES) {
            if (mask[g] == UINT64_MAX) {
                memcpy(group, words, GROUP_BYTES);
                words += GROUP_BYTES;
            } else
                for (uint64_t left = mask[g]; left; left &= left - 1, words += WORD_BYTES)
                    memcpy(group + __builtin_ctzll(left) * WORD_BYTES, words, WORD_BYTES);
        }
        length -= wanted;
    }
    if (length) status = CLOCHE_REFUSED;
    STORE(guest->words[WORD_STATE], CLOCHE_AT_REST);
    return status;
}
