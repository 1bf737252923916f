/* Calls, asks, answers, ends: on one thread. */
#include "fake.h"

static struct cloche_image image;
static struct made one(void) {
    image = fake_image(CLOCHE_GUARD);
    struct made guest = make(&image);
    guest.words[WORD_GRANTED] = 1;
    return guest;
}
static void gone(struct made guest) {
    SAME(cloche_free(guest.handle), CLOCHE_DONE);
    SAME(guest.words[WORD_STATE], CLOCHE_FREE);
    SAME(cloche_count_guests(), 0);
    free(image.engine);
}
static int message_is(struct made guest, const char *text) {
    char have[300];
    size_t length = cloche_message(guest.handle, have, sizeof have);
    return length == strlen(text) && !memcmp(have, text, length);
}

static void nobody(uint64_t handle) {
    char room[8];
    SAME(cloche_free(handle), CLOCHE_NO_GUEST);
    SAME(cloche_limit_memory(handle, 1), CLOCHE_NO_GUEST);
    SAME(cloche_call(handle, (const uint8_t *)"i1", 2), CLOCHE_NO_GUEST);
    SAME(cloche_enter(handle, CLOCHE_NODE_CHECK, 0, 0, 0, 0), CLOCHE_NO_GUEST);
    SAME(cloche_answer(handle, NULL, 0, 0), CLOCHE_NO_GUEST);
    SAME(cloche_go_on(handle), CLOCHE_NO_GUEST);
    SAME(cloche_abandon(handle), CLOCHE_NO_GUEST);
    SAME(cloche_cancel(handle, 0, CLOCHE_CANCELLED, 1), CLOCHE_NO_GUEST);
    SAME(cloche_read(handle, FAKE_HEAP, room, 1), CLOCHE_NO_GUEST);
    SAME(cloche_grow(handle, 1), CLOCHE_NO_GUEST);
    SAME(cloche_compare(handle, handle, NULL, 0, NULL, NULL), CLOCHE_NO_GUEST);
    SAME(cloche_gather(handle, NULL, 0, NULL, NULL, 0), CLOCHE_NO_GUEST);
    SAME(cloche_patch(handle, NULL, 0, NULL, NULL, 0), CLOCHE_NO_GUEST);
    SAME(cloche_is_clean(handle), 0);
    SAME(cloche_message(handle, room, sizeof room), 0);
}

CASE(every_function_refuses_a_handle_that_names_no_guest) {
    nobody(0), nobody(1), nobody(UINT64_MAX), nobody(1ULL << 32), nobody(1ULL << 63 | 70000);
    struct made first = one();
    nobody(first.handle + 1), nobody(first.handle + (1ULL << 32)), nobody((uint32_t)first.handle);
    SAME(cloche_free(first.handle), CLOCHE_DONE);
    nobody(first.handle);
    struct made second = make(&image);
    SAME(second.words == first.words, 1); /* its memory is used again, its handle is not */
    nobody(first.handle);
    SAME(run(second, "i7"), CLOCHE_DONE);
    gone(second);
}

CASE(thousands_of_guests_have_thousands_of_handles) {
    enum { MANY = 300 };
    image = fake_image(CLOCHE_GUARD);
    struct made all[MANY];
    for (int i = 0; i < MANY; i++) {
        all[i] = make(&image);
        for (int k = 0; k < i; k++) CHECK(all[k].handle != all[i].handle && all[k].words != all[i].words);
    }
    SAME(cloche_count_guests(), MANY);
    for (int i = 0; i < MANY; i += 2) SAME(cloche_free(all[i].handle), CLOCHE_DONE);
    for (int i = 0; i < MANY; i++) SAME(run(all[i], "i3"), i % 2 ? CLOCHE_DONE : CLOCHE_NO_GUEST);
    for (int i = 1; i < MANY; i += 2) SAME(cloche_free(all[i].handle), CLOCHE_DONE);
    SAME(cloche_count_guests(), 0);
    CHECK(cloche_count_stacks() <= 16);
    free(image.engine);
}

CASE(a_call_copies_its_request_and_returns_the_result) {
    struct made guest = one();
    SAME(guest.words[WORD_STATE], CLOCHE_AT_REST);
    for (int i = 1; i < 50; i++) {
        SAME(run(guest, "i-5"), CLOCHE_DONE);
        SAME(guest.words[WORD_RESULT], -5);
        SAME(guest.words[WORD_SERIAL], i);
        SAME(guest.words[WORD_STATE], CLOCHE_AT_REST);
    }
    SAME(cloche_call(guest.handle, NULL, 0), CLOCHE_DONE);
    SAME(guest.words[WORD_RESULT], 0);
    CHECK(guest.words[WORD_TOOK_NS] < 3600ULL * SECOND);
    SAME(guest.words[WORD_RECORDS], 0);
    SAME(run(guest, "w"), CLOCHE_DONE);
    SAME(guest.words[WORD_RECORDS], 1);
    SAME(cloche_enter(guest.handle, CLOCHE_NODE_CHECK, 1, 2, 3, 0xfffffff0), CLOCHE_DONE);
    SAME(guest.words[WORD_RESULT], 0xfffffff6);
    SAME(cloche_enter(guest.handle, CLOCHE_NODE_CALL, 0, 0, 0, 0), CLOCHE_REFUSED);
    SAME(cloche_enter(guest.handle, 4, 0, 0, 0, 0), CLOCHE_REFUSED);
    SAME(cloche_is_clean(guest.handle), 1);
    SAME(run(guest, "d"), CLOCHE_DONE);
    SAME(cloche_is_clean(guest.handle), 0);
    gone(guest);
}

CASE(a_guest_asks_and_goes_on_with_the_answer) {
    struct made guest = one();
    char text[8] = "";
    SAME(run(guest, "aBC"), CLOCHE_ASKS);
    SAME(guest.words[WORD_STATE], CLOCHE_WAITING);
    SAME(guest.words[WORD_ADDRESS], FAKE_REQUEST + 1);
    SAME(cloche_read(guest.handle, guest.words[WORD_ADDRESS], text, guest.words[WORD_LENGTH]), CLOCHE_DONE);
    SAME(strcmp(text, "BC"), 0);
    SAME(cloche_answer(guest.handle, NULL, 0, 77ULL << 40), CLOCHE_DONE);
    SAME(guest.words[WORD_RESULT], 77LL << 40);
    SAME(run(guest, "aa"), CLOCHE_ASKS);
    SAME(cloche_answer(guest.handle, (const uint8_t *)"", 0, 0), CLOCHE_ASKS);
    SAME(cloche_answer(guest.handle, (const uint8_t *)"hello", 5, 0), CLOCHE_DONE);
    SAME(guest.words[WORD_RESULT] & 0xffffffff, 5);
    SAME(cloche_read(guest.handle, guest.words[WORD_RESULT] >> 32, text, 5), CLOCHE_DONE);
    SAME(memcmp(text, "hello", 5), 0);
    guest.words[WORD_GRANTED] = 0;
    SAME(run(guest, "i3a"), CLOCHE_DONE);
    SAME(guest.words[WORD_RESULT], 0);
    gone(guest);
}

CASE(a_guest_polls) {
    struct made guest = one();
    SAME(run(guest, "pi4p"), CLOCHE_POLLS);
    SAME(cloche_go_on(guest.handle), CLOCHE_POLLS);
    SAME(cloche_go_on(guest.handle), CLOCHE_DONE);
    SAME(guest.words[WORD_RESULT], 0);
    guest.words[WORD_POLL_NS] = 1000000;
    SAME(run(guest, "s1000000000000"), CLOCHE_POLLS);
    for (int i = 0; i < 5; i++) SAME(cloche_go_on(guest.handle), CLOCHE_POLLS);
    SAME(cloche_abandon(guest.handle), CLOCHE_TRAPPED);
    SAME(guest.words[WORD_STOPPED], CLOCHE_ABANDONED);
    gone(guest);
}

CASE(whoever_comes_at_the_wrong_time_is_refused) {
    struct made guest = one();
    SAME(cloche_answer(guest.handle, NULL, 0, 0), CLOCHE_BUSY);
    SAME(cloche_go_on(guest.handle), CLOCHE_BUSY);
    SAME(cloche_abandon(guest.handle), CLOCHE_BUSY);
    SAME(guest.words[WORD_STATE], CLOCHE_AT_REST);
    SAME(cloche_cancel(guest.handle, 0, CLOCHE_CANCELLED, 0), CLOCHE_BUSY);
    SAME(run(guest, "a"), CLOCHE_ASKS);
    SAME(run(guest, "i1"), CLOCHE_BUSY);
    SAME(cloche_grow(guest.handle, 1 << 20), CLOCHE_BUSY);
    SAME(cloche_limit_memory(guest.handle, 1 << 20), CLOCHE_BUSY);
    SAME(cloche_is_clean(guest.handle), 0);
    SAME(cloche_answer(guest.handle, NULL, 0, 9), CLOCHE_DONE);
    SAME(guest.words[WORD_RESULT], 9);
    SAME(run(guest, "u"), CLOCHE_TRAPPED);
    SAME(run(guest, "i1"), CLOCHE_BUSY);
    SAME(cloche_enter(guest.handle, CLOCHE_NODE_CHECK, 0, 0, 0, 0), CLOCHE_BUSY);
    SAME(cloche_grow(guest.handle, 1), CLOCHE_BUSY);
    gone(guest);
}

CASE(exports_run_while_the_guest_waits) {
    struct made guest = one();
    SAME(run(guest, "aa"), CLOCHE_ASKS);
    for (int i = 0; i < 3; i++) {
        SAME(cloche_enter(guest.handle, CLOCHE_NODE_CHECK, 20, 1, 1, i), CLOCHE_DONE);
        SAME(guest.words[WORD_RESULT], 22 + i);
        SAME(guest.words[WORD_STATE], CLOCHE_WAITING);
    }
    SAME(cloche_answer(guest.handle, NULL, 0, 1), CLOCHE_ASKS);
    SAME(cloche_enter(guest.handle, CLOCHE_NODE_ALLOC, 40, 0, 0, 0), CLOCHE_DONE);
    SAME(guest.words[WORD_RESULT], FAKE_HEAP);
    SAME(cloche_enter(guest.handle, CLOCHE_NODE_FREE, FAKE_HEAP, 0, 0, 0), CLOCHE_DONE);
    SAME(cloche_answer(guest.handle, NULL, 0, 1LL << 35), CLOCHE_DONE);
    SAME(guest.words[WORD_RESULT], 1LL << 35); /* all 64 bits: it is still node_call that returns */
    gone(guest);
}

CASE(an_export_that_traps_while_the_guest_waits_ends_the_call) {
    struct made guest = one();
    SAME(run(guest, "a"), CLOCHE_ASKS);
    program.alloc = ALLOC_TRAPS;
    SAME(cloche_enter(guest.handle, CLOCHE_NODE_ALLOC, 4, 0, 0, 0), CLOCHE_TRAPPED);
    SAME(guest.words[WORD_STATE], CLOCHE_BROKEN);
    SAME(guest.words[WORD_TRAP_CODE], 9);
    CHECK(message_is(guest, "unreachable"));
    SAME(cloche_abandon(guest.handle), CLOCHE_BUSY);
    gone(guest);
}

CASE(a_guest_cannot_ask_while_an_export_runs_in_its_wait) {
    struct made guest = one();
    program.alloc = ALLOC_ASKS;
    SAME(run(guest, "a"), CLOCHE_ASKS);
    SAME(cloche_answer(guest.handle, (const uint8_t *)"x", 1, 0), CLOCHE_TRAPPED);
    SAME(guest.words[WORD_STOPPED], CLOCHE_REENTERED);
    gone(guest);
    guest = one();
    program.alloc = ALLOC_POLLS; /* it does not wait, and goes on */
    guest.words[WORD_POLL_NS] = 1000000;
    SAME(run(guest, "a"), CLOCHE_ASKS);
    SAME(cloche_answer(guest.handle, (const uint8_t *)"x", 1, 0), CLOCHE_DONE);
    gone(guest);
}

/* An export that is entered at rest must not be left in the middle: Python would not answer its requests. */
CASE(an_export_entered_at_rest_cannot_wait) {
    struct made guest = one();
    char large[FAKE_REQUEST_BYTES + 1];
    memset(large, ' ', sizeof large);
    program.alloc = ALLOC_POLLS;
    guest.words[WORD_POLL_NS] = 1000000;
    SAME(cloche_enter(guest.handle, CLOCHE_NODE_ALLOC, 8, 0, 0, 0), CLOCHE_DONE);
    SAME(guest.words[WORD_STATE], CLOCHE_AT_REST);
    program.alloc = ALLOC_ASKS;
    SAME(cloche_enter(guest.handle, CLOCHE_NODE_ALLOC, 8, 0, 0, 0), CLOCHE_TRAPPED);
    SAME(guest.words[WORD_STOPPED], CLOCHE_REENTERED);
    gone(guest);
    guest = one();
    SAME(cloche_call(guest.handle, (const uint8_t *)large, sizeof large), CLOCHE_TRAPPED);
    SAME(guest.words[WORD_STOPPED], CLOCHE_REENTERED);
    gone(guest);
    program.alloc = ALLOC_WORKS;
    program.free = FREE_ASKS;
    guest = one();
    SAME(cloche_call(guest.handle, (const uint8_t *)large, sizeof large), CLOCHE_TRAPPED);
    SAME(guest.words[WORD_STOPPED], CLOCHE_REENTERED);
    gone(guest);
}

CASE(a_guest_that_waits_can_be_given_up_everywhere) {
    static const char *const scripts[] = {"a", "p", "aaa", "ipa", "pap"};
    for (int i = 0; i < 5; i++)
        for (int goes_on = 0; goes_on < 3; goes_on++)
            for (int frees = 0; frees < 2; frees++) {
                struct made guest = one();
                int status = run(guest, scripts[i]);
                for (int k = 0; k < goes_on && status > 0; k++)
                    status = status == CLOCHE_ASKS ? cloche_answer(guest.handle, NULL, 0, 1) : cloche_go_on(guest.handle);
                if (status && !frees) {
                    SAME(cloche_abandon(guest.handle), CLOCHE_TRAPPED);
                    SAME(guest.words[WORD_STOPPED], CLOCHE_ABANDONED);
                    SAME(guest.words[WORD_STATE], CLOCHE_BROKEN);
                    SAME(cloche_abandon(guest.handle), CLOCHE_BUSY);
                }
                gone(guest);
            }
}

CASE(a_large_request_has_a_block_of_its_own) {
    struct made guest = one();
    char large[4 * FAKE_REQUEST_BYTES];
    memset(large, ' ', sizeof large);
    memcpy(large, "i5", 2);
    for (int i = 0; i < 1000; i++) { /* it is freed: the allocator would be full after 128 of them */
        SAME(cloche_call(guest.handle, (const uint8_t *)large, sizeof large), CLOCHE_DONE);
        SAME(guest.words[WORD_RESULT], 5);
    }
    memcpy(large, "ai6", 3);
    SAME(cloche_call(guest.handle, (const uint8_t *)large, sizeof large), CLOCHE_ASKS);
    SAME(cloche_answer(guest.handle, NULL, 0, 0), CLOCHE_DONE);
    SAME(guest.words[WORD_RESULT], 6);
    SAME(cloche_call(guest.handle, (const uint8_t *)large, 1ULL << 32), CLOCHE_REFUSED);
    SAME(cloche_call(guest.handle, (const uint8_t *)large, UINT32_MAX), CLOCHE_NO_ROOM);
    SAME(guest.words[WORD_STATE], CLOCHE_AT_REST);
    program.free = FREE_TRAPS;
    memcpy(large, "i6 ", 3);
    SAME(cloche_call(guest.handle, (const uint8_t *)large, sizeof large), CLOCHE_TRAPPED);
    SAME(guest.words[WORD_STATE], CLOCHE_BROKEN);
    gone(guest);
}

CASE(the_guests_allocator_is_not_trusted) {
    static const struct {
        int alloc, for_call, for_answer;
    } table[] = {{ALLOC_IS_FULL, CLOCHE_NO_ROOM, CLOCHE_NO_ROOM},
                 {ALLOC_GIVES_PAGE_0, CLOCHE_REFUSED, CLOCHE_REFUSED},
                 {ALLOC_GIVES_OUTSIDE, CLOCHE_REFUSED, CLOCHE_REFUSED},
                 {ALLOC_TRAPS, CLOCHE_TRAPPED, CLOCHE_TRAPPED}};
    char large[FAKE_REQUEST_BYTES + 1];
    memset(large, ' ', sizeof large);
    for (int i = 0; i < 4; i++) {
        program.alloc = table[i].alloc;
        struct made guest = one();
        SAME(cloche_call(guest.handle, (const uint8_t *)large, sizeof large), table[i].for_call);
        SAME(guest.words[WORD_STATE], table[i].for_call == CLOCHE_TRAPPED ? CLOCHE_BROKEN : CLOCHE_AT_REST);
        gone(guest);
        guest = one();
        SAME(run(guest, "a"), CLOCHE_ASKS);
        SAME(cloche_answer(guest.handle, (const uint8_t *)large, 20, 0), table[i].for_answer);
        if (table[i].for_answer != CLOCHE_TRAPPED) { /* it still waits, and can be told so */
            SAME(guest.words[WORD_STATE], CLOCHE_WAITING);
            SAME(cloche_answer(guest.handle, NULL, 0, 1), CLOCHE_DONE);
            SAME(guest.words[WORD_RESULT], 1);
        }
        gone(guest);
    }
}

/* A request buffer at a wrong address, which a hostile guest may have given Python. */
CASE(a_request_is_copied_into_linear_memory_only) {
    static const uint64_t wrong[] = {0,          1,          4096,          PAGE - 1, FAKE_PAGES * PAGE - 1, FAKE_PAGES * PAGE + 1,
                                     UINT32_MAX, UINT64_MAX, UINT64_MAX - 1};
    struct made guest = one();
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        guest.words[WORD_REQUEST_AT] = wrong[i];
        SAME(run(guest, "i12"), CLOCHE_REFUSED);
        SAME(guest.words[WORD_STATE], CLOCHE_AT_REST);
    }
    guest.words[WORD_REQUEST_AT] = FAKE_PAGES * PAGE - 3;
    SAME(run(guest, "i12"), CLOCHE_DONE);
    gone(guest);
}

CASE(traps_carry_their_code_and_their_text) {
    static const struct {
        const char *script;
        int code;
        const char *message;
        int stopped;
    } table[] = {{"u", 9, "unreachable", 0},
                 {"o", 1, "out of bounds memory access", 0},
                 {"x42", -1, "stopped", CLOCHE_EXITED},
                 {"R", 0, "call stack exhausted", 0}};
    for (int i = 0; i < 4; i++) {
        struct made guest = one();
        SAME(run(guest, "pi1"), CLOCHE_POLLS);
        SAME(cloche_go_on(guest.handle), CLOCHE_DONE);
        SAME(run(guest, table[i].script), CLOCHE_TRAPPED);
        SAME(guest.words[WORD_TRAP_CODE], table[i].code);
        SAME(guest.words[WORD_STOPPED], table[i].stopped);
        SAME(guest.words[WORD_EXIT_CODE], i == 2 ? 42 : 0);
        CHECK(message_is(guest, table[i].message));
        char little[3];
        SAME(cloche_message(guest.handle, little, sizeof little), 3);
        gone(guest);
    }
}

CASE(memory_is_read_only_inside_of_its_bounds) {
    struct made guest = one();
    char to[64];
    uint64_t size = FAKE_PAGES * PAGE;
    SAME(cloche_read(guest.handle, size - 8, to, 8), CLOCHE_DONE);
    SAME(cloche_read(guest.handle, size - 8, to, 9), CLOCHE_REFUSED);
    SAME(cloche_read(guest.handle, size, to, 0), CLOCHE_DONE);
    SAME(cloche_read(guest.handle, size, to, 1), CLOCHE_REFUSED);
    SAME(cloche_read(guest.handle, size + 1, to, 0), CLOCHE_REFUSED);
    SAME(cloche_read(guest.handle, UINT64_MAX, to, 8), CLOCHE_REFUSED);
    SAME(cloche_read(guest.handle, UINT64_MAX - 7, to, 8), CLOCHE_REFUSED);
    SAME(cloche_read(guest.handle, FAKE_HEAP, to, SIZE_MAX), CLOCHE_REFUSED);
    SAME(cloche_read(guest.handle, 0, to, 8), CLOCHE_REFUSED);
    SAME(cloche_grow(guest.handle, size + 1), CLOCHE_DONE);
    SAME(guest.words[WORD_MEMORY_BYTES], size + PAGE);
    SAME(cloche_read(guest.handle, size, to, 8), CLOCHE_DONE);
    SAME(cloche_grow(guest.handle, 1), CLOCHE_DONE);
    SAME(guest.words[WORD_MEMORY_BYTES], size + PAGE);
    SAME(cloche_limit_memory(guest.handle, size + PAGE), CLOCHE_DONE);
    SAME(cloche_grow(guest.handle, size + 2 * PAGE), CLOCHE_ENGINE_FAILED);
    CHECK(message_is(guest, "failed to grow memory"));
    SAME(guest.words[WORD_STATE], CLOCHE_AT_REST);
    SAME(cloche_grow(guest.handle, UINT64_MAX), CLOCHE_ENGINE_FAILED);
    SAME(run(guest, "ga"), CLOCHE_ASKS);
    SAME(guest.words[WORD_MEMORY_BYTES], size + 2 * PAGE);
    SAME(cloche_answer(guest.handle, NULL, 0, 0), CLOCHE_DONE);
    gone(guest);
}

CASE(a_guest_that_cannot_be_made_says_why) {
    static const struct {
        int birth;
        const char *message;
    } table[] = {{BIRTH_ERROR, "no address space"},
                 {BIRTH_TRAP, "unreachable"},
                 {BIRTH_WITHOUT_NOTICE, ""},
                 {BIRTH_CALLS_IMPORTS, "stopped"}};
    for (int i = 0; i < 4; i++) {
        struct made guest = {0, NULL};
        uint64_t words = 0;
        image = fake_image(i % 2 ? CLOCHE_EPOCH : CLOCHE_FUEL);
        program.birth = table[i].birth;
        SAME(cloche_new(&image, 1 << 20, &guest.handle, &words), CLOCHE_ENGINE_FAILED);
        CHECK(guest.handle && words);
        guest.words = (uint64_t *)(uintptr_t)words;
        CHECK(message_is(guest, table[i].message));
        SAME(run(guest, "i1"), CLOCHE_BUSY);
        SAME(cloche_cancel(guest.handle, 0, CLOCHE_CANCELLED, 1), CLOCHE_BUSY);
        SAME(cloche_read(guest.handle, FAKE_HEAP, &words, 8), CLOCHE_NO_GUEST);
        gone(guest);
    }
}

CASE(fuel_is_counted) {
    image = fake_image(CLOCHE_FUEL);
    struct made guest = make(&image);
    guest.words[WORD_FUEL] = 1000;
    SAME(run(guest, "f123"), CLOCHE_DONE);
    SAME(guest.words[WORD_BURNED], 123);
    gone(guest);
}

CASE(guests_wait_one_upon_another) {
    enum { DEEP = 20 };
    image = fake_image(CLOCHE_GUARD);
    struct made all[DEEP];
    for (int i = 0; i < DEEP; i++) {
        all[i] = make(&image);
        all[i].words[WORD_GRANTED] = 1;
        SAME(run(all[i], i % 2 ? "ai9" : "pi9"), i % 2 ? CLOCHE_ASKS : CLOCHE_POLLS);
    }
    for (int i = 0; i < DEEP - 1; i++) { /* a guest that is not the last to wait would go on upon a stack that is in use */
        SAME(cloche_go_on(all[i].handle), CLOCHE_BUSY);
        SAME(cloche_answer(all[i].handle, NULL, 0, 0), CLOCHE_BUSY);
        SAME(cloche_abandon(all[i].handle), CLOCHE_BUSY);
        SAME(cloche_enter(all[i].handle, CLOCHE_NODE_CHECK, 0, 0, 0, 0), CLOCHE_BUSY);
        SAME(cloche_free(all[i].handle), CLOCHE_BUSY);
    }
    struct made another = make(&image); /* others come and go meanwhile, trapped as well */
    SAME(run(another, "o"), CLOCHE_TRAPPED);
    SAME(cloche_free(another.handle), CLOCHE_DONE);
    for (int i = DEEP; i--;) {
        if (i % 5 == 0) SAME(cloche_abandon(all[i].handle), CLOCHE_TRAPPED);
        else if (i % 5 == 1) SAME(cloche_free(all[i].handle), CLOCHE_DONE);
        else if (i % 2) SAME(cloche_answer(all[i].handle, (const uint8_t *)"y", 1, 0), CLOCHE_DONE);
        else SAME(cloche_go_on(all[i].handle), CLOCHE_DONE);
        SAME(cloche_free(all[i].handle), i % 5 == 1 ? CLOCHE_NO_GUEST : CLOCHE_DONE);
    }
    SAME(cloche_count_guests(), 0);
    free(image.engine);
}

CASE(a_digest_notices_every_byte) {
    uint8_t bytes[200];
    memset(bytes, 7, sizeof bytes);
    for (size_t length = 0; length < sizeof bytes; length++) {
        uint64_t before = cloche_checksum(bytes, length);
        CHECK(length == 0 || before != cloche_checksum(bytes, length - 1));
        for (size_t i = 0; i < length; i++) {
            bytes[i] ^= 1;
            CHECK(before != cloche_checksum(bytes, length));
            bytes[i] ^= 1;
        }
        SAME(before == cloche_checksum(bytes, length), 1);
    }
}

/* Words are given on the command line as index=value; each `next` is a call with that script whose result is printed. `again`
   makes a word change between two calls, as a pool does when it uses a guest again. */
int print_results(int count, char **arguments) {
    struct made guest = one();
    for (int i = 0; i < count; i++) {
        char *value = strchr(arguments[i], '=');
        if (value) {
            guest.words[strtoull(arguments[i], NULL, 0)] = strtoull(value + 1, NULL, 0);
            continue;
        }
        SAME(run(guest, arguments[i]), CLOCHE_DONE);
        printf("%lld\n", (long long)guest.words[WORD_RESULT]);
    }
    printf("%llu %llu %llu\n", (unsigned long long)guest.words[WORD_CLOCK_SLEPT],
           (unsigned long long)guest.words[WORD_CLOCK_STEPPED], (unsigned long long)guest.words[WORD_DRAWN]);
    gone(guest);
    return 0;
}
