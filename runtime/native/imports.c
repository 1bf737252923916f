/* The six functions that a guest can call. They run on the guest's stack. `call`, `poll` and a long `sleep` need Python: they
   leave the stack, and Python lets the guest go on there with its answer. */
#define _GNU_SOURCE
#include "core.h"
#include <string.h>
#include <time.h>

static void *stopped(struct guest *guest, uint64_t reason) {
    if (reason && !guest->trapped) set_stop(guest, reason);
    return engine.trap_new("stopped", 7);
}

/* A start function of a module may call an import before there is a guest. */
static void *unborn(void) { return engine.trap_new("stopped", 7); }

/* Whether the guest must not run on: it has been stopped, or Python unwinds it. */
static int must_stop(struct guest *guest) { return LOAD(guest->stop) || guest->command == UNWIND; }

/* Leave the stack with that status until Python lets the guest go on; meanwhile run the exports that Python calls. */
static void wait_for_python(struct guest *guest, int status) {
    guest_wait(guest, status);
    while (guest->command == RUN_EXPORT) {
        guest->inside_ask = 1;
        int done = guest_run(guest);
        guest->inside_ask = 0;
        guest_wait(guest, done);
    }
}

static const int64_t MONOTONIC_START = 1000000000; /* not 0, which programs take for a clock that was never read */

static int64_t sum(uint64_t a, uint64_t b, uint64_t c) {
    uint64_t total = a + b + c; /* each is below 2^63: two of them cannot wrap, three are caught here */
    return total > INT64_MAX || total < a ? INT64_MAX : (int64_t)total;
}

static int64_t clock_reading(uint64_t *words, int which) {
    if (words[WORD_CLOCK_MODE] != CLOCK_MODE_REAL) {
        uint64_t stepped = words[WORD_CLOCK_STEPPED], after = stepped + words[WORD_CLOCK_STEP];
        words[WORD_CLOCK_STEPPED] = after > INT64_MAX ? INT64_MAX : after;
        return which == CLOCK_ID_REALTIME    ? sum(words[WORD_CLOCK_START], words[WORD_CLOCK_SLEPT], stepped)
               : which == CLOCK_ID_MONOTONIC ? sum((uint64_t)MONOTONIC_START, words[WORD_CLOCK_SLEPT], stepped)
                                             : (int64_t)stepped;
    }
    struct timespec t;
    clock_gettime(which == CLOCK_ID_REALTIME    ? CLOCK_REALTIME
                  : which == CLOCK_ID_MONOTONIC ? CLOCK_MONOTONIC
                                                : CLOCK_THREAD_CPUTIME_ID,
                  &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static int clock_kind(int which) {
    return which == CLOCK_ID_REALTIME ? ANSWERED_REALTIME : which == CLOCK_ID_MONOTONIC ? ANSWERED_MONOTONIC : ANSWERED_CPU_TIME;
}

static void *clock_import(void *env, void *caller, union engine_raw *values, size_t count) {
    (void)env, (void)caller, (void)count;
    struct guest *guest = current_guest();
    if (!guest) return unborn();
    uint64_t *words = guest->words;
    int which = values[0].i32;
    if (words[WORD_JOURNAL_MODE] == JOURNAL_MODE_REPLAY) {
        uint64_t reading;
        journal_take(guest, clock_kind(which), &reading);
        values[0].i64 = (int64_t)reading;
        return NULL;
    }
    values[0].i64 = clock_reading(words, which);
    if (words[WORD_JOURNAL_MODE]) journal_note(guest, clock_kind(which), (uint64_t)values[0].i64);
    return NULL;
}

static void *random_import(void *env, void *caller, union engine_raw *values, size_t count) {
    (void)env, (void)caller, (void)count;
    struct guest *guest = current_guest();
    if (!guest) return unborn();
    uint64_t word = 0;
    uint64_t mode = guest->words[WORD_JOURNAL_MODE];
    if (mode != JOURNAL_MODE_REPLAY || !journal_take(guest, ANSWERED_RANDOM, &word)) word = random_word(guest);
    if (mode == JOURNAL_MODE_RECORD) journal_note(guest, ANSWERED_RANDOM, word);
    values[0].i64 = (int64_t)word;
    return NULL;
}

/* Sleep until that time, or less. What the import returns to the guest, or -1: the guest must not run on. */
static int64_t sleep_until(struct guest *guest, int64_t until) {
    for (;;) {
        switch (timer_sleep(guest, until)) {
        case WOKEN_TIME: return 0;
        case WOKEN_NOTICE: return WASI_EINTR; /* CPython then looks for signals, and so finds the notice */
        case WOKEN_STOP: return -1;
        case WOKEN_POLL:
            if (guest->inside_ask) break;
            wait_for_python(guest, CLOCHE_POLLS);
            if (must_stop(guest)) {
                if (!guest->trapped) set_stop(guest, CLOCHE_ABANDONED);
                return -1;
            }
        }
    }
}

static void *sleep_import(void *env, void *caller, union engine_raw *values, size_t count) {
    (void)env, (void)caller, (void)count;
    struct guest *guest = current_guest();
    if (!guest) return unborn();
    uint64_t *words = guest->words, told = 0;
    int64_t span = values[0].i64 < 0 ? 0 : values[0].i64, now = clock_now();
    int64_t until = span > INT64_MAX - now ? INT64_MAX - 1 : now + span;
    if (words[WORD_JOURNAL_MODE] == JOURNAL_MODE_REPLAY) {
        journal_take(guest, ANSWERED_SLEEP, &told);
        if (told != CLOCHE_DEADLINE && told != CLOCHE_BUDGET && told) told = CLOCHE_CANCELLED; /* the journal may be a stranger's */
        if (told && !LOAD(words[WORD_TOLD])) timer_cancel(guest, guest->handle, 0, told, 0);
        until = now;
    } else if (words[WORD_CLOCK_MODE] != CLOCK_MODE_REAL) {
        if (words[WORD_CLOCK_MODE] == CLOCK_MODE_MOVING) {
            uint64_t slept = words[WORD_CLOCK_SLEPT] + (uint64_t)span;
            words[WORD_CLOCK_SLEPT] = slept > INT64_MAX ? INT64_MAX : slept;
        }
        until = now; /* no time passes */
    }
    int64_t result = sleep_until(guest, until);
    if (result < 0) return stopped(guest, 0);
    if (words[WORD_JOURNAL_MODE] && result) words[WORD_JOURNAL_TOLD] = 1;
    if (words[WORD_JOURNAL_MODE] == JOURNAL_MODE_RECORD) journal_note(guest, ANSWERED_SLEEP, result ? LOAD(words[WORD_TOLD]) : 0);
    values[0].i64 = result;
    return NULL;
}

static void *exit_import(void *env, void *caller, union engine_raw *values, size_t count) {
    (void)env, (void)caller, (void)count;
    struct guest *guest = current_guest();
    if (!guest) return unborn();
    guest->words[WORD_EXIT_CODE] = (uint32_t)values[0].i32;
    return stopped(guest, CLOCHE_EXITED);
}

static void *poll_import(void *env, void *caller, union engine_raw *values, size_t count) {
    (void)env, (void)caller, (void)count;
    struct guest *guest = current_guest();
    if (!guest) return unborn();
    if (!guest->inside_ask) wait_for_python(guest, CLOCHE_POLLS);
    if (must_stop(guest)) return stopped(guest, CLOCHE_ABANDONED);
    values[0].i64 = NOTICE_NONE; /* the guest finds what it is told in its notice word */
    return NULL;
}

static void *call_import(void *env, void *caller, union engine_raw *values, size_t count) {
    (void)env, (void)caller, (void)count;
    struct guest *guest = current_guest();
    if (!guest) return unborn();
    if (!guest->words[WORD_GRANTED]) {
        values[0].i64 = ANSWER_NONE;
        return NULL;
    }
    if (guest->inside_ask) return stopped(guest, CLOCHE_REENTERED); /* from inside node_alloc, node_free or node_check */
    guest->words[WORD_ADDRESS] = (uint32_t)values[0].i32;
    guest->words[WORD_LENGTH] = (uint32_t)values[1].i32;
    if (guest->taped) {
        const uint8_t *request = guest_bytes(guest, guest->words[WORD_ADDRESS], guest->words[WORD_LENGTH]);
        if (request) tape_add(guest, TAPED_CAME, request, guest->words[WORD_LENGTH]);
    }
    wait_for_python(guest, CLOCHE_ASKS);
    if (must_stop(guest)) return stopped(guest, CLOCHE_ABANDONED);
    values[0].i64 = (int64_t)guest->answer;
    return NULL;
}

CLOCHE_EXPORT const engine_callback cloche_imports[] = {clock_import, random_import, sleep_import,
                                                        exit_import,  call_import,   poll_import};
